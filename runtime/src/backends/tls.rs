//! This file answers: how is a source known to be who it should be, and we to it?
//!
//! One crypto provider, named here and not taken from the process. What a source's certificates must lead to is
//! read at the start: its own authorities, or those of the operating system at the places where distributions keep
//! them. No variable of the environment is asked (REQUIREMENTS X64).

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};
use wsauth::config::TlsConfig;

use super::address::bare;

/// Where distributions keep the authorities: Debian, Fedora, SUSE, RHEL 7, Alpine.
const SYSTEM_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const MAX_SYSTEM_BYTES: u64 = 16 * 1024 * 1024;

/// Reads the authorities of the operating system.
///
/// # Errors
///
/// None were found.
pub(super) fn system_authorities() -> Result<Arc<RootCertStore>, &'static str> {
    for path in SYSTEM_FILES {
        let mut pem = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_SYSTEM_BYTES).read_to_end(&mut pem));
        if read.is_ok() {
            let mut store = RootCertStore::empty();
            // One odd certificate among 140 is the distribution's business.
            store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
            if !store.is_empty() {
                return Ok(Arc::new(store));
            }
        }
    }
    Err("no certificate authorities of the operating system were found: name them with `tls = { ca_file = … }`")
}

/// Builds what connections to one source need.
///
/// # Errors
///
/// What is wrong with the operator's certificates; the text repeats nothing of them.
pub(super) fn build(
    config: &TlsConfig,
    system: impl FnOnce() -> Result<Arc<RootCertStore>, &'static str>,
) -> Result<Arc<ClientConfig>, &'static str> {
    let roots = match &config.authorities {
        Some(pem) => own_authorities(pem)?,
        None => system()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| "TLS 1.2 and 1.3 are not available")?
        .with_root_certificates(roots);
    let Some((chain, key)) = &config.client else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or("`tls.certificate_file` holds no certificate in PEM")?;
    let key =
        PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| "`tls.private_key` holds no private key in PEM")?;
    let config = builder
        .with_client_auth_cert(chain, key)
        .map_err(|_| "`tls.private_key` is not the key of the certificate, or of no kind we know")?;
    Ok(Arc::new(config))
}

fn own_authorities(pem: &[u8]) -> Result<Arc<RootCertStore>, &'static str> {
    const WRONG: &str = "`tls.ca_file` holds no certificates in PEM, or one that cannot be an authority";
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.map_err(|_| WRONG)?).map_err(|_| WRONG)?;
    }
    if store.is_empty() { Err(WRONG) } else { Ok(Arc::new(store)) }
}

/// Puts TLS on connections of https urls.
#[derive(Debug)]
pub(super) struct TlsConnector(pub(super) Arc<ClientConfig>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().map(bare).ok_or(Error::HostNotFound)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut conn = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        let mut sock = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        sock.set_timeout(remaining(details));
        conn.complete_io(&mut sock)?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned::new(conn, sock) })))
    }
}

/// What is left for the handshake of the time to connect.
fn remaining(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Duration::Exact(limit), Instant::Exact(began), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        timeout.after = Duration::Exact(limit.saturating_sub(now.saturating_duration_since(began)));
    }
    timeout
}

/// A connection with TLS on it.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input).map_err(|error| match error.kind() {
            // Cut off without a goodbye. Read as an end it would let anybody on the wire shorten a body.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {
                io::Error::from(io::ErrorKind::InvalidData)
            }
            _ => error,
        })?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}
