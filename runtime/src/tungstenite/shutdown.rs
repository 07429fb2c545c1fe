//! This file answers: how does a server that goes away tell its peers?

use wsauth::Reason;

use crate::guard::Guard;

impl Guard {
    /// Closes every accepted socket with the code of `shutdown` (1001). Their readers return within `close_ms`.
    /// Stop accepting first. Returns how many there were.
    pub fn close_all(&self) -> usize {
        let lines = self.with_running_pump(|pump| pump.registry().all()).unwrap_or_default();
        let code = self.close_code(Reason::Shutdown);
        for line in &lines {
            line.refuse(Reason::Shutdown.into(), code);
        }
        lines.len()
    }
}
