//! What a roster believes, what it refuses, and what it remembers.

#[path = "roster/endpoint.rs"]
mod endpoint;
#[path = "roster/endpoint_room.rs"]
mod endpoint_room;
#[path = "roster/fixture.rs"]
mod fixture;
#[path = "roster/forget.rs"]
mod forget;
#[path = "roster/honest.rs"]
mod honest;
#[path = "roster/order.rs"]
mod order;
#[path = "roster/property.rs"]
mod property;
#[path = "roster/refused_chain.rs"]
mod refused_chain;
#[path = "roster/refused_node.rs"]
mod refused_node;
#[path = "roster/renewed_root.rs"]
mod renewed_root;
#[path = "roster/restart.rs"]
mod restart;
#[path = "roster/rivals.rs"]
mod rivals;
#[path = "roster/signers.rs"]
mod signers;
#[path = "roster/standing.rs"]
mod standing;
