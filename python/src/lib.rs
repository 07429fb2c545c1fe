//! The native module `wsauth._wsauth`. The package around it is in `python/wsauth`.

mod clock;
mod connection;
mod engine;
mod errors;
mod event;
mod identity;
mod json;
mod life;
mod lookup;
mod request;
mod resolver;
mod table;
mod text;
mod tree;
mod verdict;

/// The native half of wsauth.
// A free-threaded interpreter does not load an abi3 module at all (RULES 44); others keep their GIL.
#[pyo3::pymodule(gil_used = true)]
mod _wsauth {
    #[pymodule_export]
    use crate::clock::PyManualClock;
    #[pymodule_export]
    use crate::connection::PyConnection;
    #[pymodule_export]
    use crate::engine::PyEngine;
    #[pymodule_export]
    use crate::event::{PyEvent, PyRefreshed, PyRevoked, PyStep};
    #[pymodule_export]
    use crate::identity::PyIdentity;
    #[pymodule_export]
    use crate::life::after_fork_in_child;
    #[pymodule_export]
    use crate::lookup::{PyLookup, PyVouched};
    #[pymodule_export]
    use crate::resolver::call_nobody;
    #[pymodule_export]
    use crate::table::refusal_rows;
    #[pymodule_export]
    use crate::verdict::PyVerdict;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name Python expects")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
