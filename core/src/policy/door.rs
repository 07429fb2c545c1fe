//! This file answers: what do the tests of the judge stand on? One policy and one identity, without a connection.
use crate::config::RuleConfig;
use crate::decision::Reason;
use crate::policy::PermissionSet;
use crate::policy::compile::Policy;
use crate::policy::judge::{Fields, require_permission};
use crate::policy::sets::PermissionSets;
use crate::wire::message::{MessageShape, scan_message};

/// One policy and one identity, without a connection around them.
#[derive(Debug)]
pub(crate) struct Door {
    policy: Policy,
    permissions: PermissionSet,
    subject: String,
    sets: PermissionSets,
    set_id: u32,
}

impl Door {
    /// Compiles the rules and the identity.
    ///
    ///
    ///
    /// What is wrong with a rule.
    pub(crate) fn new(rules: &[(String, RuleConfig)], permissions: &[&str], subject: &str) -> Result<Door, String> {
        let policy = Policy::compile(rules, &[])?;
        let permissions = PermissionSet::from_texts(permissions.iter().copied());
        let sets = PermissionSets::new(1);
        let bitmap = policy.bitmap(&permissions, subject);
        let set_id = sets.intern(1, &bitmap).ok_or("no room for one set")?;
        Ok(Door { policy, permissions, subject: subject.into(), sets, set_id })
    }

    /// Decides one message as the flow does, apart from everything that concerns its connection: the bitmap where it
    /// is enough, the fields where they matter. At most 64 KiB and 32 levels.
    ///
    ///
    ///
    /// Why it is refused.
    pub(crate) fn require_message(&self, bytes: &[u8]) -> Result<(), Reason> {
        let shape = MessageShape { type_field: "type", max_bytes: 65_536, max_depth: 32 };
        let message = scan_message(bytes, &shape)?;
        let type_id = self.policy.select_message(message.type_name())?;
        if self.sets.allows(self.set_id, type_id) {
            return Ok(());
        }
        if !self.policy.slow(type_id) {
            return Err(Reason::PermissionMissing);
        }
        require_permission(&self.policy, type_id, &self.permissions, &self.subject, Fields::Message(&message))
    }
}
