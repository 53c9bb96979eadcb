//! A whole mesh that rotates, for a day and with everything that can go wrong, in virtual time.
//!
//! Where the model of two nodes tries every order of a few events, this one plays thousands of nodes with the usual
//! lengths, several organisations with their logs, registries that go away, partitions, absences, crashes at any effect,
//! clocks that differ, stolen and lost keys and restored backups, as a seed draws them. Both ends run the code of this
//! crate as it is; ghosts and invariants are those of the model. Each run is a seed's alone: the same seed is the same
//! run.

mod dice;
mod faults;
mod graph;
mod link;
mod logging;
mod outage;
mod plan;
mod queue;
mod records;
mod runs;
mod service;
mod simulation;
mod station;
mod storm;
mod tunnels;
mod verdict;
