//! This file answers: whom do we ask over HTTP, and over which connections?

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use ureq::http::Uri;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Proxy};
use wsauth::config::{Config, IssuerConfig, KeysConfig, LookupsConfig, ProfileConfig, TlsConfig};
use wsauth::lookup::{Answer, Question};
use wsauth::time::WallTime;

use super::address::Policy;
use super::credential::CredentialConnector;
use super::names::{self, Lookup, Names, SourceNames};
use super::request::{self, Ourselves};
use super::response;
use super::tls::{self, TlsConnector};
use crate::clock::Clock;
use crate::driver::Resolver;
use crate::start::StartError;

/// Longest head of a response, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Room for what came and was not taken yet.
const INPUT_BYTES: usize = 32 * 1024;
/// Room for one header line of ours: a client id and secret, encoded twice.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Most idle connections to one source.
const MAX_IDLE: usize = 4;
/// An idle connection is closed after this: before servers do, which would cost us the next question.
const IDLE: Duration = Duration::from_secs(4);

/// Answers questions that have a url, by asking there.
///
/// One pool of connections per issuer and one for the profile; nothing is shared between them. What a response means
/// is not its business: every complete one is handed on, whatever its status, and redirects are not followed. The
/// guard makes its own unless `lookups.driver = "host"`; this is for hosts that drive an
/// [`Engine`](wsauth::Engine) themselves.
///
/// # Security
///
/// A source can make a question fail and nothing else. It can hold a worker for `lookups.timeout`, make it read 16 KiB
/// of head and 64 KiB of body (512 KiB of a key set), and lead it neither elsewhere nor, through its DNS, to this
/// machine or the link. Nothing of the environment is read.
pub struct HttpResolver {
    issuers: HashMap<String, Source>,
    profile: Option<Source>,
    total_ms: u64,
    connect_ms: u64,
    /// Dropped to end what waits for a name.
    waiting: Mutex<Option<Sender<()>>>,
}

struct Source {
    agent: Agent,
    policy: Policy,
    ourselves: Ourselves,
    /// Where our credentials may be shown, as far as it is configured: how such a url begins.
    shown_at: Option<String>,
}

impl Source {
    /// Whether our credentials may be shown there. A reload may have replaced both since the question was asked.
    fn may_be_shown(&self, question: &Question, url: &str) -> bool {
        match question {
            Question::Introspection { .. } => self.shown_at.as_deref().is_none_or(|at| at == url),
            Question::Profile { .. } => self.shown_at.as_deref().is_some_and(|begin| url.starts_with(begin)),
            _ => true,
        }
    }
}

impl HttpResolver {
    /// Reads certificates and makes the pools. Connects nowhere and starts no thread.
    ///
    /// # Errors
    ///
    /// [`StartError::Source`]: certificates of a source that cannot be used.
    pub fn from_config(config: &Config) -> Result<HttpResolver, StartError> {
        HttpResolver::with_names(config, names::system())
    }

    pub(super) fn with_names(config: &Config, lookup: Lookup) -> Result<HttpResolver, StartError> {
        let (stop, stopped) = bounded(0);
        let maker =
            Maker { lookups: &config.lookups, names: Arc::new(Names::new(lookup, stopped)), system: OnceLock::new() };
        let mut issuers = HashMap::new();
        for issuer in &config.issuers {
            if let Some(source) = maker.of_issuer(issuer)? {
                issuers.insert(issuer.issuer.clone(), source);
            }
        }
        let profile = config.profile.as_ref().map(|profile| maker.of_profile(profile)).transpose()?.flatten();
        let LookupsConfig { total_ms, connect_ms, .. } = config.lookups;
        Ok(HttpResolver { issuers, profile, total_ms, connect_ms, waiting: Mutex::new(Some(stop)) })
    }

    /// Whether there is nobody to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.issuers.is_empty() && self.profile.is_none()
    }

    /// Asks, within `budget_ms` and `lookups.timeout`. `now` is what a `Retry-After` date is compared with.
    pub(crate) fn fetch(&self, question: &Question, budget_ms: u64, now: WallTime) -> Answer {
        let budget = Duration::from_millis(self.total_ms.min(budget_ms));
        match self.try_fetch(question, budget, now) {
            Some(response) => Answer::Response(Box::new(response)),
            None => Answer::Unavailable { retry_after_ms: None },
        }
    }

    fn try_fetch(&self, question: &Question, budget: Duration, now: WallTime) -> Option<wsauth::lookup::HttpResponse> {
        let source = self.source(question)?;
        let text = question.url()?;
        let url: Uri = text.parse().ok()?;
        if budget.is_zero() || !source.may_be_shown(question, text) || !source.policy.permits_url(&url) {
            return None;
        }
        let request = request::build(question, &url, &source.ourselves)?;
        let connect = Duration::from_millis(self.connect_ms).min(budget);
        let request = source
            .agent
            .configure_request(request)
            .https_only(url.scheme_str() == Some("https"))
            .timeout_global(Some(budget))
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .build();
        let response = source.agent.run(request).ok()?;
        response::read(question, response, now)
    }

    fn source(&self, question: &Question) -> Option<&Source> {
        match question {
            Question::Discovery { issuer, .. }
            | Question::Keys { issuer, .. }
            | Question::Introspection { issuer, .. } => self.issuers.get(&**issuer),
            Question::Profile { .. } => self.profile.as_ref(),
            Question::Session { .. } => None,
        }
    }

    /// Ends what is under way, and answers nothing any more. May be called often.
    pub(crate) fn shut_down(&self) {
        drop(self.waiting.lock().take());
        for source in self.issuers.values().chain(&self.profile) {
            source.agent.clone().shutdown();
        }
    }
}

impl Resolver for HttpResolver {
    fn resolve(&self, question: &Question) -> Answer {
        self.fetch(question, u64::MAX, Clock::system().fine().wall)
    }
}

impl fmt::Debug for HttpResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpResolver({} issuers, profile: {})", self.issuers.len(), self.profile.is_some())
    }
}

/// What the sources of one configuration have in common while they are made.
struct Maker<'a> {
    lookups: &'a LookupsConfig,
    names: Arc<Names>,
    system: OnceLock<Result<Arc<RootCertStore>, &'static str>>,
}

impl Maker<'_> {
    fn of_issuer(&self, issuer: &IssuerConfig) -> Result<Option<Source>, StartError> {
        let keys = match &issuer.keys {
            KeysConfig::Remote(remote) => Some(&*remote.url),
            _ => None,
        };
        let introspection = issuer.introspection.as_ref();
        let urls: Vec<&str> = keys.into_iter().chain(introspection.and_then(|asked| asked.url.as_deref())).collect();
        let ourselves = Ourselves::client(introspection);
        let source = self.source(&format!("issuer `{}`", issuer.issuer), &urls, &issuer.tls, ourselves)?;
        let shown_at = introspection.and_then(|asked| asked.url.clone());
        Ok(source.map(|source| Source { shown_at, ..source }))
    }

    fn of_profile(&self, profile: &ProfileConfig) -> Result<Option<Source>, StartError> {
        // The url names the subject after the host only, in braces that no url has.
        let url = profile.url.as_ref().map(|url| url.replace(['{', '}'], ""));
        let ourselves = Ourselves::bearer(profile.bearer.as_ref());
        let source = self.source("profile", url.as_deref().as_slice(), &profile.tls, ourselves)?;
        let shown_at = profile.url.as_deref().and_then(|url| url.split('{').next()).map(str::to_owned);
        Ok(source.map(|source| Source { shown_at, ..source }))
    }

    /// `None` when there is nowhere to ask.
    fn source(
        &self,
        name: &str,
        urls: &[&str],
        tls: &TlsConfig,
        ourselves: Ourselves,
    ) -> Result<Option<Source>, StartError> {
        if urls.is_empty() {
            return Ok(None);
        }
        let refuse = |what: &'static str| StartError::Source { name: name.to_owned(), what };
        let secure = urls.iter().any(|url| url.starts_with("https://"));
        let system = || {
            // A source on this machine needs no store of authorities.
            if secure {
                self.system.get_or_init(tls::system_authorities).clone()
            } else {
                Ok(RootCertStore::empty().into())
            }
        };
        let tls = tls::build(tls, system).map_err(refuse)?;
        let policy = Policy::of(urls.iter().copied());
        let agent = self.agent(tls, &policy, &ourselves).map_err(refuse)?;
        Ok(Some(Source { agent, policy, ourselves, shown_at: None }))
    }

    fn agent(&self, tls: Arc<ClientConfig>, policy: &Policy, ourselves: &Ourselves) -> Result<Agent, &'static str> {
        let proxy = self.lookups.proxy.as_deref();
        let names = SourceNames::new(Arc::clone(&self.names), policy.clone().through(proxy));
        let proxy = proxy.map(Proxy::new).transpose().map_err(|_| "`lookups.proxy` is no proxy")?;
        let config = Agent::config_builder()
            .proxy(proxy)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("wsauth/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("")
            .max_response_header_size(MAX_HEAD_BYTES)
            .input_buffer_size(INPUT_BYTES)
            .output_buffer_size(OUTPUT_BYTES)
            .max_idle_connections(MAX_IDLE)
            .max_idle_connections_per_host(MAX_IDLE)
            .max_idle_age(IDLE)
            .build();
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(TlsConnector(tls))
                .chain(CredentialConnector(ourselves.credential().cloned()));
        Ok(Agent::with_parts(config, connector, names))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc;

    use super::*;
    use crate::secrets::SystemSecrets;

    const ISSUER: &str = "https://id.example.com";

    fn config(url: &str) -> Config {
        let text = format!(
            r#"
            [[issuer]]
            issuer = "{ISSUER}"
            audience = ["a"]
            algorithms = ["RS256"]
            keys = {{ jwks_url = "{url}" }}

            [handshake]
            origins = ["https://app.example.com"]
            credentials = ["authorization"]
            trusted_proxies = []
            "#
        );
        Config::from_toml(&text, &SystemSecrets::new()).unwrap()
    }

    fn keys(url: &str) -> Question {
        Question::Keys { issuer: ISSUER.into(), url: url.into() }
    }

    fn ask(http: &HttpResolver, url: &str) -> bool {
        matches!(http.fetch(&keys(url), u64::MAX, WallTime(0)), Answer::Response(_))
    }

    #[test]
    fn a_name_that_flips_to_this_machine_or_the_link_is_not_connected_to() {
        let trap = TcpListener::bind("127.0.0.1:0").unwrap();
        trap.set_nonblocking(true).unwrap();
        let port = trap.local_addr().unwrap().port();
        for flipped in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254"] {
            let lookup: Lookup = Arc::new(move |_, port| Ok(vec![SocketAddr::new(flipped.parse().unwrap(), port)]));
            let url = format!("{ISSUER}:{port}/jwks");
            let http = HttpResolver::with_names(&config(&url), lookup).unwrap();
            assert!(!ask(&http, &url), "{flipped}");
        }
        assert_eq!(trap.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    }

    #[test]
    fn the_address_that_was_checked_is_the_one_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://localhost:{port}/jwks");
        // Another port than the url's is not believed either.
        let lookup: Lookup =
            Arc::new(|_, _| Ok(vec!["169.254.1.1:80".parse().unwrap(), "127.0.0.1:1".parse().unwrap()]));
        let http = HttpResolver::with_names(&config(&url), lookup).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(listener.accept().is_ok()));
        assert!(!ask(&http, &url), "it hangs up");
        assert!(told.recv().unwrap());
    }

    #[test]
    fn shutting_down_ends_what_is_under_way_and_what_comes_later() {
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks", hole.local_addr().unwrap());
        let mut config = config(&url);
        // Longer than any test may take.
        (config.lookups.total_ms, config.lookups.connect_ms) = (3_600_000, 3_600_000);
        let http = Arc::new(HttpResolver::from_config(&config).unwrap());
        let (asking, asked) = (Arc::clone(&http), url.clone());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(ask(&asking, &asked)));
        let (mut stream, _) = hole.accept().unwrap();
        assert!(stream.read(&mut [0; 16]).unwrap() > 0, "the question is under way");
        http.shut_down();
        assert!(!told.recv_timeout(Duration::from_secs(20)).unwrap());
        http.shut_down();
        assert!(!ask(&http, &url));
    }

    #[test]
    fn a_question_without_time_left_is_not_asked() {
        let trap = TcpListener::bind("127.0.0.1:0").unwrap();
        trap.set_nonblocking(true).unwrap();
        let url = format!("http://{}/jwks", trap.local_addr().unwrap());
        let http = HttpResolver::from_config(&config(&url)).unwrap();
        assert!(matches!(http.fetch(&keys(&url), 0, WallTime(0)), Answer::Unavailable { .. }));
        assert_eq!(trap.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn debug_shows_no_secret_and_a_configuration_without_urls_has_nobody_to_ask() {
        let mut config = config("https://id.example.com/jwks");
        let http = HttpResolver::from_config(&config).unwrap();
        assert_eq!(format!("{http:?}"), "HttpResolver(1 issuers, profile: false)");
        assert!(!http.is_empty());
        config.issuers[0].keys = KeysConfig::None;
        assert!(HttpResolver::from_config(&config).unwrap().is_empty());
    }
}
