//! Passwords: Argon2id, a few at a time, never on the threads that carry signalling.
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// Each takes some 20 MiB and tens of milliseconds.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
pub const MAX_PASSWORD_BYTES: usize = 256;
pub const MIN_PASSWORD_CHARS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has {MIN_PASSWORD_CHARS} characters or more, and {MAX_PASSWORD_BYTES} bytes or fewer")]
    Length,
    #[error("the password cannot be hashed")]
    Hashing,
}

/// The PHC text to keep.
pub async fn hash(password: String) -> Result<String, PasswordError> {
    if password.chars().count() < MIN_PASSWORD_CHARS || password.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordError::Length);
    }
    let work = move || {
        let hashed: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
        hashed.map(|h| h.to_string()).map_err(|_| PasswordError::Hashing)
    };
    off_the_runtime(work).await.unwrap_or(Err(PasswordError::Hashing))
}

/// Whether `password` is the one behind `kept`. Without a `kept` hash the same work is done for nothing, so that an
/// unknown login takes as long as a wrong password.
pub async fn verify(password: String, kept: Option<String>) -> bool {
    if password.len() > MAX_PASSWORD_BYTES {
        return false;
    }
    let work = move || match kept {
        Some(kept) => match PasswordHash::new(&kept) {
            Ok(parsed) => Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok(),
            Err(_) => false,
        },
        None => {
            let hashed: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
            drop(hashed);
            false
        }
    };
    off_the_runtime(work).await.unwrap_or(false)
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let _permit = AT_ONCE.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_password_opens_and_nothing_else() {
        let kept = hash("correct horse".into()).await.unwrap();
        assert!(kept.starts_with("$argon2id$"));
        assert!(verify("correct horse".into(), Some(kept.clone())).await);
        assert!(!verify("correct hors".into(), Some(kept)).await);
        assert!(!verify("correct horse".into(), None).await);
        assert!(!verify("x".into(), Some("not a hash".into())).await);
        assert_eq!(hash("short".into()).await, Err(PasswordError::Length));
    }
}
