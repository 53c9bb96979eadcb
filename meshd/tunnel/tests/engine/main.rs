//! The engine from outside: nodes in a world of virtual time, with a network that loses, delays and doubles.

mod bugs;
mod calling;
mod differential;
mod handshake;
mod impairment;
mod load;
mod node;
mod places;
mod world;
