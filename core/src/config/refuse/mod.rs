//! This file answers: is this configuration safe to start with?
//!
//! Every check gives its reason in one sentence. `bounds` holds the least and the most of every number.

mod bounds;
mod handshake;
mod issuer;
mod origin;
mod rules;
mod sources;

use super::place::Place;
use super::problem::Problem;
use super::types::{CloseConfig, CloseProfile, Config};

pub(crate) use self::origin::find_named_url_problem;

/// Why a configuration without issuers and sessions is refused.
pub(crate) const NOBODY_VOUCHES: &str =
    "neither an [[issuer]] nor [sessions] is configured: nobody could be authenticated";

/// The first thing in `config` that is dangerous, cannot work, or is out of its bounds.
pub(crate) fn require_safe(config: &Config) -> Result<(), Problem> {
    issuer::require_issuers(config)?;
    sources::require_sources(config)?;
    handshake::require_handshake(config)?;
    rules::require_rules(config)?;
    require_close(&config.close)?;
    bounds::require_bounds(config)
}

/// Codes a close frame may carry (RFC 6455 section 7.4): these four of the registered ones, and the two open ranges.
/// 1005, 1006 and 1015 never travel.
fn require_close(close: &CloseConfig) -> Result<(), Problem> {
    let place = Place::top("close").key("map");
    for (position, (from, to)) in close.map.iter().enumerate() {
        let place = place.key(&from.to_string());
        let of_profile = match close.profile {
            CloseProfile::Default => false,
            CloseProfile::GraphqlWs => matches!(from, 4400 | 4401 | 4403 | 4408 | 4429),
        };
        if !of_profile && !matches!(from, 1001 | 4001..=4014) {
            return Err(Problem::new(place, "is no code of this profile, so nothing would be mapped"));
        }
        if !matches!(to, 1000 | 1001 | 1008 | 1011 | 1013 | 3000..=4999) {
            let what = "a peer may be sent 1000, 1001, 1008, 1011, 1013 or 3000 to 4999";
            return Err(Problem::new(place, format_args!("{to} may not be sent: {what}")));
        }
        if close.map.iter().take(position).any(|(other, _)| other == from) {
            return Err(Problem::new(place, "written twice"));
        }
    }
    Ok(())
}
