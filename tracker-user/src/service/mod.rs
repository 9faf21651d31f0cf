//! Work that goes on in threads and tasks of its own, and how it learns that it is over.

mod shutdown;

pub use shutdown::Shutdown;
