//! This file answers: how does our credential reach a source without passing through anybody's log?
//!
//! The HTTP client writes every head it sends into the log of whoever listens at the lowest level. So the head it is
//! given holds a placeholder of the same length, and the credential is put in its place on the way to the wire.

use std::fmt;
use std::sync::Arc;

use ureq::Error;
use ureq::http::HeaderValue;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport};
use wsauth::secret::Secret;

/// What stands before the placeholder in a head: nothing else there holds a line break and a space.
const FIELD: &[u8] = b"\r\nauthorization: ";
const FILLER: u8 = b'~';

/// Our credential at one source: the value of `Authorization`.
#[derive(Clone, Debug)]
pub(super) struct Credential(Arc<Secret>);

impl Credential {
    pub(super) fn new(scheme: &str, credential: &[u8]) -> Credential {
        let mut value = Vec::with_capacity(scheme.len().saturating_add(credential.len()).saturating_add(1));
        value.extend_from_slice(scheme.as_bytes());
        value.push(b' ');
        value.extend_from_slice(credential);
        Credential(Arc::new(Secret::new(value)))
    }

    /// What a request holds in its place.
    pub(super) fn placeholder(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(&vec![FILLER; self.0.expose().len()]).ok()
    }

    /// Puts the credential into a head that is about to be sent. Where it has no place the source will not know us,
    /// and refuse.
    fn fill(&self, head: &mut [u8]) {
        let value = self.0.expose();
        let Some(at) = head.windows(FIELD.len()).position(|window| window == FIELD) else { return };
        let place = head.get_mut(at.saturating_add(FIELD.len())..).and_then(|rest| rest.get_mut(..value.len()));
        if let Some(place) = place
            && place.iter().all(|byte| *byte == FILLER)
        {
            place.copy_from_slice(value);
        }
    }
}

/// Puts the credential, if there is one, on every connection of its source.
#[derive(Debug)]
pub(super) struct CredentialConnector(pub(super) Option<Credential>);

impl<In: Transport> Connector<In> for CredentialConnector {
    type Out = Either<In, CredentialTransport<In>>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| match &self.0 {
            Some(credential) => Either::B(CredentialTransport { inner, credential: credential.clone() }),
            None => Either::A(inner),
        }))
    }
}

/// A connection that knows our credential.
pub(super) struct CredentialTransport<In> {
    inner: In,
    credential: Credential,
}

impl<In: Transport> Transport for CredentialTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if let Some(output) = self.inner.buffers().output().get_mut(..amount) {
            self.credential.fill(output);
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl<In> fmt::Debug for CredentialTransport<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialTransport")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_the_place_that_was_kept_for_it_and_no_other() {
        let credential = Credential::new("Basic", b"abc");
        assert_eq!(credential.placeholder().unwrap(), "~~~~~~~~~");
        let filled = |head: &str| {
            let mut head = head.as_bytes().to_vec();
            credential.fill(&mut head);
            String::from_utf8(head).unwrap()
        };
        let head = "GET /~~~~~~~~~ HTTP/1.1\r\nauthorization: ~~~~~~~~~\r\nx: ~~~~~~~~~\r\n\r\n";
        let wanted = "GET /~~~~~~~~~ HTTP/1.1\r\nauthorization: Basic abc\r\nx: ~~~~~~~~~\r\n\r\n";
        assert_eq!(filled(head), wanted);
        for other in ["", "GET / HTTP/1.1\r\n\r\n", "\r\nauthorization: ", "\r\nauthorization: ~~~~\r\nx: ~~~~~~~"] {
            assert_eq!(filled(other), other);
        }
        assert!(!format!("{credential:?}").contains("abc"));
    }
}
