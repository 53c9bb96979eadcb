//! The plugin as runtimes run it: a process with an environment and standard input, and meshd's answers from a socket.
//!
//! The socket's answers are a stand-in's: what is tested here is the translation. `calls` holds what real runtimes
//! send, word for word.

mod bad_input;
mod calls;
mod chain;
mod deadline;
mod install;
mod lifetime;
mod manual;
mod refusals;
mod rig;
mod versions;
