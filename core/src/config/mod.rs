//! This folder answers: what was configured, and is it safe to start with?
//!
//! `tree` is what was written, `fields` takes typed values out of it, `known` lists the keys that exist, the
//! readers (`issuer`, `sources`, `handshake`, `sections`) fill `types` over `defaults`, and `refuse` has the last word.

mod defaults;
mod fields;
mod handshake;
mod issuer;
mod known;
mod material;
mod place;
mod problem;
mod refuse;
mod sections;
mod sources;
mod tree;
mod types;

#[cfg(test)]
mod page;
#[cfg(test)]
mod texts;

pub use material::{NoSecretSource, SecretSource};
pub use problem::ConfigProblem;
pub use tree::{Entry, Kind, MAX_TEXT_BYTES, Value};
pub use types::*;

pub(crate) use refuse::find_named_url_problem;

use fields::Fields;
use place::Place;
use problem::Problem;

impl Config {
    /// Reads a configuration from TOML text of at most 1 MiB.
    ///
    /// # Refusals
    ///
    /// The first problem found, with its line: text that is no TOML, a key that does not exist, a value of the
    /// wrong type, a secret that cannot be read, and everything [`require_safe`](Config::require_safe) refuses.
    pub fn from_toml(text: &str, source: &dyn SecretSource) -> Result<Config, ConfigProblem> {
        Config::from_tree(&Value::parse_toml(text)?, source)
    }

    /// Reads a configuration from a tree: TOML that was read already, or a host language's own tables.
    ///
    /// Refuses what [`from_toml`](Config::from_toml) refuses.
    pub fn from_tree(root: &Value, source: &dyn SecretSource) -> Result<Config, ConfigProblem> {
        let config = read(root, source).map_err(|problem| problem.in_tree(root))?;
        refuse::require_safe(&config).map_err(|problem| problem.in_tree(root))?;
        Ok(config)
    }

    /// Refuses what is dangerous or cannot work, and every bound out of its range, each with its reason in one
    /// sentence. A configuration made by hand goes through the same checks as one that was read.
    pub fn require_safe(&self) -> Result<(), ConfigProblem> {
        refuse::require_safe(self).map_err(ConfigProblem::from)
    }
}

fn read(root: &Value, source: &dyn SecretSource) -> Result<Config, Problem> {
    let top = Fields::open(Place::default(), root, &known::TOP)?;
    let issuers = top.tables("issuer")?.into_iter().map(|(place, value)| issuer::issuer(place, value, source));
    let issuers = issuers.collect::<Result<Vec<_>, _>>()?;
    let sessions = match top.find("sessions") {
        Some(value) => Some(issuer::sessions(top.at("sessions"), value)?),
        None => None,
    };
    let profile = match top.find("profile") {
        Some(value) => Some(sources::profile(top.at("profile"), value, source)?),
        None => None,
    };
    if issuers.is_empty() && sessions.is_none() {
        return Err(Problem::new(Place::default(), refuse::NOBODY_VOUCHES));
    }
    Ok(Config {
        issuers,
        sessions,
        profile,
        lookups: sources::lookups(&top.section("lookups", &known::LOOKUPS)?)?,
        handshake: handshake::handshake(&top.section("handshake", &known::HANDSHAKE)?)?,
        message: sections::message(&top.section("message", &known::MESSAGE)?)?,
        messages: sections::rules(&top.free_section("messages")?, &known::RULE)?,
        deliveries: sections::rules(&top.free_section("deliveries")?, &known::DELIVERY)?,
        connection: sections::connection(&top.section("connection", &known::CONNECTION)?)?,
        refresh: sections::refresh(&top.section("refresh", &known::REFRESH)?)?,
        limits: sections::limits(&top.section("limits", &known::LIMITS)?)?,
        brute_force: sections::brute_force(&top.section("brute_force", &known::BRUTE_FORCE)?)?,
        close: sections::close(&top.section("close", &known::CLOSE)?)?,
        revocation: sections::revocation(&top.section("revocation", &known::REVOCATION)?)?,
        audit: sections::audit(&top.section("audit", &known::AUDIT)?)?,
    })
}
