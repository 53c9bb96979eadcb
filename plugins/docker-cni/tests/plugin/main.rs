//! The plugin as Docker uses it: a process that answers at a socket, and meshd's answers from a stand-in.
//!
//! What is tested here is the translation. `calls` holds what Docker sends and what must come back, word for word.

mod addresses;
mod bad_input;
mod calls;
mod endpoints;
mod lifetime;
mod manual;
mod networks;
mod rig;
mod without_meshd;
