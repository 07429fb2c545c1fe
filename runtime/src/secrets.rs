//! This file answers: where do `{ env = … }` and `{ file = … }` in a configuration get their values?

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use wsauth::config::SecretSource;

/// Longest file read, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Secrets from this process's environment and its files. Errors name what went wrong, never a value.
#[derive(Clone, Debug, Default)]
pub struct SystemSecrets {
    folder: Option<PathBuf>,
}

impl SystemSecrets {
    /// Relative paths are looked for in the current folder.
    pub fn new() -> SystemSecrets {
        SystemSecrets::default()
    }

    /// Relative paths are looked for in `folder`: beside the configuration that names them.
    pub fn in_folder(folder: impl Into<PathBuf>) -> SystemSecrets {
        SystemSecrets { folder: Some(folder.into()) }
    }
}

impl SecretSource for SystemSecrets {
    fn env(&self, name: &str) -> Result<Vec<u8>, String> {
        // The standard library panics on names that no environment can hold.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err("this cannot be the name of an environment variable".to_owned());
        }
        let value = std::env::var_os(name).ok_or("the environment variable is not set")?;
        if value.is_empty() {
            return Err("the environment variable is empty".to_owned());
        }
        Ok(value.into_vec())
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        let place = self.folder.as_ref().map_or_else(|| PathBuf::from(path), |folder| folder.join(path));
        let bytes = read_bounded(&place).map_err(|kind| match kind {
            ErrorKind::FileTooLarge => "the file is longer than 1 MiB".to_owned(),
            ErrorKind::InvalidInput => "this is not a regular file".to_owned(),
            other => format!("the file cannot be read: {other}"),
        })?;
        if bytes.is_empty() { Err("the file is empty".to_owned()) } else { Ok(bytes) }
    }
}

/// Reads a regular file of at most [`MAX_FILE_BYTES`].
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, ErrorKind> {
    // A pipe or a device could block for ever or never end, and opening one already may.
    if !std::fs::metadata(path).map_err(|error| error.kind())?.is_file() {
        return Err(ErrorKind::InvalidInput);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.kind())?;
    let read = file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.kind())?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_FILE_BYTES) {
        return Err(ErrorKind::FileTooLarge);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str, content: &[u8]) -> String {
        let path = std::env::temp_dir().join(format!("wsauth-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    #[test]
    fn a_file_is_read_whole_and_never_repeated_in_an_error() {
        let path = scratch("secret", b"twelve bytes");
        assert_eq!(SystemSecrets::new().file(&path).unwrap(), b"twelve bytes");
        std::fs::remove_file(&path).unwrap();
        let gone = SystemSecrets::new().file(&path).unwrap_err();
        assert!(gone.contains("cannot be read"), "{gone}");
    }

    #[test]
    fn too_long_empty_and_strange_files_are_refused() {
        let long = scratch("long", &vec![b'x'; usize::try_from(MAX_FILE_BYTES).unwrap() + 1]);
        assert!(SystemSecrets::new().file(&long).unwrap_err().contains("1 MiB"));
        let exact = scratch("exact", &vec![b'x'; usize::try_from(MAX_FILE_BYTES).unwrap()]);
        assert!(SystemSecrets::new().file(&exact).is_ok());
        let empty = scratch("empty", b"");
        assert!(SystemSecrets::new().file(&empty).unwrap_err().contains("empty"));
        assert!(SystemSecrets::new().file("/dev/zero").unwrap_err().contains("regular"));
        assert!(SystemSecrets::new().file("/nul\0").is_err());
        for path in [long, exact, empty] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn the_environment_answers_only_what_is_set() {
        assert!(!SystemSecrets::new().env("PATH").unwrap().is_empty());
        assert!(SystemSecrets::new().env("WSAUTH_SURELY_NOT_SET").is_err());
        assert!(SystemSecrets::new().env("").is_err());
        assert!(SystemSecrets::new().env("A=B").is_err());
    }

    #[test]
    fn relative_files_stand_beside_the_configuration() {
        let path = scratch("beside", b"found");
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap().to_owned();
        assert!(SystemSecrets::new().file(&name).is_err());
        assert_eq!(SystemSecrets::in_folder(std::env::temp_dir()).file(&name).unwrap(), b"found");
    }
}
