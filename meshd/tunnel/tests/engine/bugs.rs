//! Tests named after bugs that other implementations shipped.
