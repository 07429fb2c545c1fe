//! This file answers: how can one accept be tuned?

/// How a refused handshake is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refuse {
    /// With an HTTP status and a problem document, before the upgrade. Browsers show scripts only that it failed.
    #[default]
    Http,
    /// By accepting and closing with the refusal's close code, which browsers can read. Holds no permit and no slot
    /// meanwhile (RULES 17).
    AcceptThenClose,
}

/// Bounds of one accepted socket.
#[derive(Clone, Debug)]
pub struct AcceptOptions {
    /// How a refusal is told. Default [`Refuse::Http`].
    pub refuse: Refuse,
    /// How long the whole HTTP request may take to come, in milliseconds. Default 10 s.
    pub request_ms: u64,
    /// How long a peer may take to answer our close frame, in milliseconds. Default 2 s.
    pub close_ms: u64,
    /// How long a peer may take no bytes while some wait, in milliseconds; then it is disconnected. Default 5 s.
    pub stall_ms: u64,
    /// Most bytes that may wait for a peer beside the message being sent; then it is disconnected. Default 1 MiB.
    pub max_pending_bytes: usize,
}

impl Default for AcceptOptions {
    fn default() -> AcceptOptions {
        AcceptOptions {
            refuse: Refuse::Http,
            request_ms: 10_000,
            close_ms: 2_000,
            stall_ms: 5_000,
            max_pending_bytes: 1024 * 1024,
        }
    }
}
