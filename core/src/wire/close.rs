//! This file answers: which close code does the peer see?

use crate::config::{CloseConfig, CloseProfile};
use crate::decision::Reason;

/// The close code of a refusal under the configured profile and map (DESIGN section 7).
pub(crate) fn close_code(reason: Reason, config: &CloseConfig) -> u16 {
    let code = reason.row().close;
    let profiled = match config.profile {
        CloseProfile::Default => code,
        CloseProfile::GraphqlWs => graphql_ws(code),
    };
    config.map.iter().find(|(from, _)| *from == code || *from == profiled).map_or(profiled, |(_, to)| *to)
}

/// The codes of the graphql-ws protocol. Expiry is 4403 there, since its client treats 4401 as fatal.
const fn graphql_ws(code: u16) -> u16 {
    match code {
        4001 => 4401,
        4010 => 4408,
        4008 | 4009 => 4429,
        4014 => 4400,
        4002..=4007 | 4011..=4013 => 4403,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::close_code;
    use crate::config::{CloseConfig, CloseProfile};
    use crate::decision::Reason;

    #[test]
    fn the_map_wins_over_the_profile() {
        let mut config = CloseConfig { profile: CloseProfile::Default, map: Vec::new() };
        assert_eq!(close_code(Reason::Expired, &config), 4002);
        config.profile = CloseProfile::GraphqlWs;
        assert_eq!(close_code(Reason::Expired, &config), 4403);
        assert_eq!(close_code(Reason::CredentialMissing, &config), 4401);
        assert_eq!(close_code(Reason::Shutdown, &config), 1001);
        config.map = vec![(4002, 3000), (4401, 3001)];
        assert_eq!(close_code(Reason::Expired, &config), 3000);
        assert_eq!(close_code(Reason::CredentialMissing, &config), 3001, "named by the profile's own code");
    }

    #[test]
    fn no_profile_sends_a_reserved_code() {
        for profile in [CloseProfile::Default, CloseProfile::GraphqlWs] {
            let config = CloseConfig { profile, map: Vec::new() };
            for reason in Reason::ALL {
                let code = close_code(*reason, &config);
                assert!(code == 1001 || (4000..5000).contains(&code));
            }
        }
    }
}
