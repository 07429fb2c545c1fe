//! This file answers: what can whoever sets the environment do, or whoever reads the log?

use std::process::Command;
use std::sync::{Mutex, Once};

use crate::certificates::Authority;
use crate::script::{
    BEARER, CLIENT_SECRET, Script, TOKEN, ask, config, introspection, keys, profile, resolver, response,
};
use wsauth_runtime::HttpResolver;

#[test]
fn the_environment_changes_nothing() {
    let plain = Script::saying(response(200, "", b"{}"));
    let trap = Script::raw(|_, _| {});
    let authority = Authority::new();
    let secure = Script::secure(authority.certify("localhost", 2999).server(None), |_| Some(response(200, "", b"{}")));
    let file = std::env::temp_dir().join(format!("wsauth-hostile-{}.pem", std::process::id()));
    std::fs::write(&file, authority.pem()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["environment::a_child_in_a_hostile_environment", "--exact", "--nocapture"]);
    child.env("WSAUTH_TEST_PLAIN", plain.url());
    child.env("WSAUTH_TEST_SECURE", format!("https://localhost:{}", secure.address.port()));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, trap.url()).env(name.to_ascii_lowercase(), trap.url());
    }
    child.env("SSL_CERT_FILE", &file).env("SSL_CERT_DIR", std::env::temp_dir());
    child.env("RUST_LOG", "trace").env("LC_ALL", "tr_TR.UTF-8");
    let output = child.output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!((plain.requests().len(), secure.requests().len(), trap.connections()), (1, 0, 0));
    assert_eq!(secure.connections(), 1, "it was asked, and not believed");
}

/// The child of the test above. By itself it has nobody to ask.
#[test]
fn a_child_in_a_hostile_environment() {
    let (Ok(plain), Ok(secure)) = (std::env::var("WSAUTH_TEST_PLAIN"), std::env::var("WSAUTH_TEST_SECURE")) else {
        return;
    };
    assert_eq!(ask(&resolver(&plain), &keys(&plain)).unwrap().status, 200, "directly, past every proxy");
    let resolver = HttpResolver::from_config(&config(&secure)).unwrap();
    assert!(ask(&resolver, &keys(&secure)).is_none(), "SSL_CERT_FILE makes nobody an authority");
}

struct Memory(Mutex<String>);

impl log::Log for Memory {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        use std::fmt::Write;
        writeln!(self.0.lock().unwrap(), "{} {}", record.target(), record.args()).unwrap();
    }
    fn flush(&self) {}
}

#[test]
fn a_log_of_everything_holds_no_secret() {
    static LOG: Memory = Memory(Mutex::new(String::new()));
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    let authority = Authority::new();
    let answer = |_: &str| Some(response(200, "", b"{\"active\":true}"));
    let secure = Script::secure(authority.certify("localhost", 2999).server(None), answer);
    let url = format!("https://localhost:{}", secure.address.port());
    let mut config = config(&url);
    config.issuers[0].tls.authorities = Some(authority.pem());
    config.profile.as_mut().unwrap().tls.authorities = Some(authority.pem());
    let resolver = HttpResolver::from_config(&config).unwrap();
    for question in [introspection(&url), profile(&url), keys(&url)] {
        ask(&resolver, &question).unwrap();
    }
    let log = LOG.0.lock().unwrap();
    assert!(log.contains("ureq"), "something was logged at all");
    // What went over the wire is logged in rows of sixteen bytes: hexadecimal, two spaces, text.
    let wire: String = log.lines().filter(|line| line.starts_with("ureq_proto::util")).map(text_of).collect();
    assert!(wire.contains("GET /jwks HTTP/1.1"), "{wire}");
    // base64 of `ws%3A1:` begins the credential.
    for secret in [TOKEN, CLIENT_SECRET, BEARER, "d3MlM0Ex"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
        assert!(!wire.contains(secret), "{secret} in {wire}");
    }
}

fn text_of(row: &str) -> String {
    let hex = row.split_once(' ').unwrap().1.split("  ").next().unwrap();
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| char::from(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()))
        .collect()
}
