//! This file answers: why could an engine not be made?

use std::fmt;
use std::io;

use wsauth::config::ConfigProblem;

/// Why a [`Guard`](crate::Guard) could not be made. Nothing was started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration was refused.
    Config(ConfigProblem),
    /// The configuration file cannot be read.
    File(io::ErrorKind),
    /// The configuration file is longer than 1 MiB or not UTF-8.
    Text,
    /// The operating system gave no random bytes.
    NoRandomness,
    /// A source of the configuration cannot be asked: its certificates are unusable, or its keys could not be fetched
    /// although `lookups.require_keys` is set.
    Source {
        /// Which one: `profile`, or the issuer.
        name: String,
        /// What is wrong. Holds nothing secret.
        what: &'static str,
    },
}

impl From<ConfigProblem> for StartError {
    fn from(problem: ConfigProblem) -> StartError {
        StartError::Config(problem)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(problem) => write!(f, "{problem}"),
            StartError::File(kind) => write!(f, "the configuration file cannot be read: {kind}"),
            StartError::Text => f.write_str("the configuration file is longer than 1 MiB or not UTF-8"),
            StartError::NoRandomness => f.write_str("the operating system gave no random bytes"),
            StartError::Source { name, what } => write!(f, "{name}: {what}"),
        }
    }
}

impl std::error::Error for StartError {}
