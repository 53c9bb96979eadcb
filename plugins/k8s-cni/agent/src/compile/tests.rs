//! Objects in, reachability out. `cases` says for each row of upstream's definition who may reach whom; `upstream` is that
//! definition once more, as naive as can be, and random objects are held against it.

mod cases;
mod heavy;
mod judge;
mod pieces;
mod random;
mod shape;
mod upstream;
