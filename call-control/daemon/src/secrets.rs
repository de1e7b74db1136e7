//! Randomness, and secrets that are made on the first start and kept in the data directory.
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read or write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} can be read by others than its owner (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} does not hold {expected} bytes", path.display())]
    Length { path: PathBuf, expected: usize },
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
    Ok(bytes)
}

/// `bytes` random bytes as URL-safe text.
pub fn random_text<const N: usize>() -> Result<String, SecretError> {
    use base64::Engine;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random::<N>()?))
}

/// Reads a secret of `N` bytes, or makes it. Only its owner may read the file.
pub fn kept<const N: usize>(path: &Path) -> Result<[u8; N], SecretError> {
    let failed = |source| SecretError::File { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => {
            let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SecretError::Exposed { path: path.to_owned(), mode });
            }
            bytes.try_into().map_err(|_| SecretError::Length { path: path.to_owned(), expected: N })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = random::<N>()?;
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
            file.write_all(&secret).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_refused_when_others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let first: [u8; 32] = kept(&path).unwrap();
        assert_eq!(kept::<32>(&path).unwrap(), first);
        assert!(matches!(kept::<16>(&path), Err(SecretError::Length { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(kept::<32>(&path), Err(SecretError::Exposed { mode: 0o640, .. })));
    }
}
