//! The program between a cluster and meshd, both stood in for.

mod api;
mod manual;
mod rig;
mod rules;
mod run;
