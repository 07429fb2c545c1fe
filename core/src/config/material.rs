//! This file answers: where do the bytes of a secret or a key come from?

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::fields::{Fields, expected};
use super::place::{Place, shown};
use super::problem::Problem;
use super::tree::{Kind, Value};

/// Reads what the configuration points to. The core does no IO; whoever has a disk implements this.
pub trait SecretSource {
    /// The value of an environment variable. The error is repeated to the operator: it must not hold the value.
    fn env(&self, name: &str) -> Result<Vec<u8>, String>;
    /// The contents of a file. The error is repeated to the operator: it must not hold the contents.
    fn file(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// A source that has nothing: for configurations whose keys are all written inline or fetched.
#[derive(Clone, Copy, Debug)]
pub struct NoSecretSource;

impl SecretSource for NoSecretSource {
    fn env(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no environment is available here".to_owned())
    }

    fn file(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no files are available here".to_owned())
    }
}

/// Largest key material in bytes: a key set document (R-JWK-01).
pub(crate) const MAX_MATERIAL: usize = 512 << 10;

const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, PADDING);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PADDING);

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Text,
    Base64Url,
    Base64,
}

/// The sources a table of material may name, of which it names exactly one.
const FORMS: [&str; 5] = ["env", "file", "text", "base64url", "base64"];

/// What a literal text in the place of a secret is answered with.
pub(crate) fn require_table(place: &Place, value: &Value) -> Result<(), Problem> {
    match value.kind {
        Kind::Table(_) => Ok(()),
        Kind::String(_) => Err(Problem::new(
            place.clone(),
            "a secret is not written here: use { env = \"NAME\" } or { file = \"path\" }, \
             or { text = \"…\" } where nothing is at stake",
        )),
        _ => Err(expected(place.clone(), "a table such as { env = \"NAME\" }", value)),
    }
}

/// The bytes that a table with exactly one of `env`, `file`, `text`, `base64url` and `base64` stands for.
///
/// One line break at the end of a variable or a file is dropped: editors put it there. Binary secrets are
/// written with an `encoding`.
pub(crate) fn read(fields: &Fields<'_>, source: &dyn SecretSource) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let written: Vec<&str> = FORMS.into_iter().filter(|form| fields.has(form)).collect();
    let [form] = written.as_slice() else {
        let what = "needs exactly one of `env`, `file`, `text`, `base64url` and `base64`";
        return Err(Problem::new(fields.place(), what));
    };
    let form: &str = form;
    let place = fields.at(form);
    let words = [("text", Encoding::Text), ("base64url", Encoding::Base64Url), ("base64", Encoding::Base64)];
    let encoding = fields.word("encoding", &words)?;
    let outside = matches!(form, "env" | "file");
    if encoding.is_some() && !outside {
        return Err(fields.problem("encoding", "belongs to `env` and `file`; the other forms name theirs"));
    }
    let Some(text) = fields.text(form)?.map(Zeroizing::new) else {
        return Err(Problem::new(place, "is missing"));
    };
    let (bytes, encoding) = match form {
        "env" => (read_env(&place, &text, source)?, encoding.unwrap_or(Encoding::Text)),
        "file" => (read_file(&place, &text, source)?, encoding.unwrap_or(Encoding::Text)),
        "base64url" => (Zeroizing::new(text.as_bytes().to_vec()), Encoding::Base64Url),
        "base64" => (Zeroizing::new(text.as_bytes().to_vec()), Encoding::Base64),
        _ => (Zeroizing::new(text.as_bytes().to_vec()), Encoding::Text),
    };
    let bytes: &[u8] = if outside { without_line_break(&bytes) } else { &bytes };
    let decoded = match encoding {
        Encoding::Text => Ok(bytes.to_vec()),
        Encoding::Base64Url => BASE64URL.decode(bytes),
        Encoding::Base64 => BASE64.decode(bytes),
    };
    let name = if encoding == Encoding::Base64 { "base64" } else { "base64url" };
    decoded.map(Zeroizing::new).map_err(|_| Problem::new(place, format_args!("what it holds is not {name}")))
}

/// The contents of a file, as they are.
pub(crate) fn read_file(place: &Place, path: &str, source: &dyn SecretSource) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if path.is_empty() || path.contains('\0') {
        return Err(Problem::new(place.clone(), "is not the path of a file"));
    }
    let refuse = |what: String| Problem::new(place.clone(), format_args!("file `{}`: {}", shown(path), shown(&what)));
    let bytes = source.file(path).map(Zeroizing::new).map_err(refuse)?;
    if bytes.len() > MAX_MATERIAL { Err(refuse("longer than 512 KiB".to_owned())) } else { Ok(bytes) }
}

fn read_env(place: &Place, name: &str, source: &dyn SecretSource) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // A secret pasted where its name belongs must not be repeated.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let named = name.len() <= 128 && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(plain);
    if name.is_empty() || !named {
        return Err(Problem::new(place.clone(), "is not the name of an environment variable"));
    }
    let refuse = |what: String| Problem::new(place.clone(), format_args!("variable `{name}`: {}", shown(&what)));
    source.env(name).map(Zeroizing::new).map_err(refuse)
}

fn without_line_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::known;
    use super::*;

    struct Disk;

    impl SecretSource for Disk {
        fn env(&self, name: &str) -> Result<Vec<u8>, String> {
            match name {
                "TEXT" => Ok(b"swordfish\n".to_vec()),
                "URL" => Ok(b"-_8\r\n".to_vec()),
                _ => Err("not set".to_owned()),
            }
        }

        fn file(&self, path: &str) -> Result<Vec<u8>, String> {
            match path {
                "two" => Ok(b"two breaks\n\n".to_vec()),
                "padded" => Ok(b"+/8=\n".to_vec()),
                "big" => Ok(vec![b'x'; MAX_MATERIAL + 1]),
                _ => Err("no such file".to_owned()),
            }
        }
    }

    fn bytes(text: &str) -> Result<Vec<u8>, String> {
        let root = Value::parse_toml(text).unwrap();
        let fields = Fields::open(Place::default(), &root, &known::MATERIAL).unwrap_or_else(|_| panic!());
        read(&fields, &Disk).map(|bytes| bytes.to_vec()).map_err(|problem| problem.in_tree(&root).to_string())
    }

    #[test]
    fn bytes_from_each_form() {
        let good: &[(&str, &[u8])] = &[
            ("env = \"TEXT\"", b"swordfish"),
            ("env = \"URL\"\nencoding = \"base64url\"", b"\xfb\xff"),
            ("file = \"two\"", b"two breaks\n"),
            ("file = \"padded\"\nencoding = \"base64\"", b"\xfb\xff"),
            ("text = \"inline\\n\"", b"inline\n"),
            ("base64url = \"-_8=\"", b"\xfb\xff"),
            ("base64 = \"+/8\"", b"\xfb\xff"),
        ];
        for (text, wanted) in good {
            assert_eq!(bytes(text).as_deref(), Ok(*wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_source_is_refused_without_repeating_secrets() {
        let bad = [
            ("", "needs exactly one of `env`, `file`, `text`, `base64url` and `base64`"),
            ("env = \"A\"\ntext = \"b\"", "needs exactly one of `env`, `file`, `text`, `base64url` and `base64`"),
            ("env = \"NOWHERE\"", "line 1: env: variable `NOWHERE`: not set"),
            ("env = \"hunter2 hunter2\"", "line 1: env: is not the name of an environment variable"),
            ("env = 5", "line 1: env: expected a text, found a whole number"),
            ("file = \"gone\"", "line 1: file: file `gone`: no such file"),
            ("file = \"big\"", "line 1: file: file `big`: longer than 512 KiB"),
            ("file = \"\"", "line 1: file: is not the path of a file"),
            ("base64url = \"+/8\"", "line 1: base64url: what it holds is not base64url"),
            ("base64 = \"hunter2!\"", "line 1: base64: what it holds is not base64"),
            (
                "text = \"a\"\nencoding = \"base64\"",
                "line 2: encoding: belongs to `env` and `file`; the other forms name theirs",
            ),
        ];
        for (text, wanted) in bad {
            assert_eq!(bytes(text), Err(wanted.to_owned()), "{text}");
        }
    }
}
