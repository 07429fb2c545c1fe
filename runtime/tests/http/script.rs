//! This file answers: what is a server that does as it is told, and who asks it?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use wsauth::config::{Config, SecretSource};
use wsauth::lookup::{Answer, HttpResponse, Question};
use wsauth::secret::Secret;
use wsauth_runtime::{Clock, HttpResolver, Resolver};

pub(crate) const ISSUER: &str = "https://id.example.com";
pub(crate) const TOKEN: &str = "opaque-token-0123456789";
pub(crate) const CLIENT_SECRET: &str = "client-secret-0123456789";
pub(crate) const BEARER: &str = "profile-bearer-0123456789";

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A server on a free port of this machine, for as long as the test process lives.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Runs `play` on a thread per connection, with the connection's number.
    pub(crate) fn raw(play: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, play) = (Arc::clone(&connections), Arc::new(play));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let play = Arc::clone(&play);
                thread::spawn(move || play(stream, number));
            }
        });
        Script { address, connections, requests: Arc::default() }
    }

    /// Answers each request of each connection with what `answer` makes of it; `None` hangs up.
    pub(crate) fn answering(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Script {
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let script = Script::raw(move |mut stream, _| talk(&mut stream, &seen, &answer));
        Script { requests, ..script }
    }

    /// The same with TLS.
    pub(crate) fn secure(
        config: ServerConfig,
        answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Script {
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, config) = (Arc::clone(&requests), Arc::new(config));
        let script = Script::raw(move |stream, _| {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            talk(&mut stream, &seen, &answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        Script { requests, ..script }
    }

    /// Answers everything with these bytes.
    pub(crate) fn saying(answer: impl Into<Vec<u8>>) -> Script {
        let answer = answer.into();
        Script::answering(move |_| Some(answer.clone()))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Head and body of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn talk(stream: &mut dyn Stream, seen: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> Option<Vec<u8>>) {
    while let Some(request) = read_request(stream) {
        seen.lock().unwrap().push(request.clone());
        let Some(answer) = answer(&request) else { return };
        if stream.write_all(&answer).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// Reads one request: its head, and the body it announces.
pub(crate) fn read_request(stream: &mut dyn Stream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.extend(byte);
    }
    let head = String::from_utf8(bytes.clone()).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    bytes.extend(body);
    String::from_utf8(bytes).ok()
}

/// A response with a status, further fields and a body.
pub(crate) fn response(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A configuration whose keys, introspection and profile are at `url`.
pub(crate) fn config(url: &str) -> Config {
    struct None;
    impl SecretSource for None {
        fn env(&self, _: &str) -> Result<Vec<u8>, String> {
            Err("not here".to_owned())
        }
        fn file(&self, _: &str) -> Result<Vec<u8>, String> {
            Err("not here".to_owned())
        }
    }
    let text = format!(
        r#"
        [[issuer]]
        issuer = "{ISSUER}"
        audience = ["wss://live.example.com"]
        algorithms = ["ES256", "RS256"]
        keys = {{ jwks_url = "{url}/jwks" }}
        opaque = true
        introspection = {{ url = "{url}/introspect", client_id = "ws:1", client_secret = {{ text = "{CLIENT_SECRET}" }} }}

        [profile]
        url = "{url}/users/{{subject}}"
        bearer = {{ text = "{BEARER}" }}

        [lookups]
        connect_timeout = "300ms"
        timeout = "600ms"

        [handshake]
        origins = ["https://app.example.com"]
        credentials = ["authorization"]
        require_origin = false
        trusted_proxies = []

        [messages]
        "chat.send" = "chat:write"
        "#
    );
    Config::from_toml(&text, &None).unwrap()
}

pub(crate) fn resolver(url: &str) -> HttpResolver {
    HttpResolver::from_config(&config(url)).unwrap()
}

pub(crate) fn keys(url: &str) -> Question {
    Question::Keys { issuer: ISSUER.into(), url: format!("{url}/jwks").into() }
}

pub(crate) fn introspection(url: &str) -> Question {
    let token = Secret::new(TOKEN.as_bytes().to_vec());
    Question::Introspection { issuer: ISSUER.into(), url: Some(format!("{url}/introspect").into()), token }
}

pub(crate) fn profile(url: &str) -> Question {
    Question::Profile { issuer: ISSUER.into(), subject: "ann".into(), url: Some(format!("{url}/users/ann").into()) }
}

pub(crate) fn discovery(url: &str) -> Question {
    Question::Discovery { issuer: ISSUER.into(), url: format!("{url}/.well-known/openid-configuration").into() }
}

/// The response, or `None` when there was none to be had.
pub(crate) fn ask(resolver: &dyn Resolver, question: &Question) -> Option<HttpResponse> {
    match resolver.resolve(question) {
        Answer::Response(response) => Some(*response),
        Answer::Unavailable { retry_after_ms: None } => None,
        other => panic!("{other:?}"),
    }
}

/// Asks a server that says these bytes for its keys, then hangs up.
pub(crate) fn ask_once(bytes: &[u8]) -> Option<HttpResponse> {
    let bytes = bytes.to_vec();
    let script = Script::raw(move |mut stream, _| {
        if read_request(&mut stream).is_some() {
            let _ = stream.write_all(&bytes);
        }
    });
    ask(&resolver(&script.url()), &keys(&script.url()))
}

/// Runs `wait` and says that it ended within ten times its limit of 600 ms.
pub(crate) fn in_time<T>(wait: impl FnOnce() -> T) -> T {
    let before = Clock::system().fine().mono;
    let result = wait();
    let took = Clock::system().fine().mono.since(before);
    assert!(took < 6_000, "{took} ms");
    result
}

pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if is_true() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}
