//! Passwords: Argon2id, off the async threads, at most a few at a time.
//!
//! One hash takes 19 MiB and some 20 ms on purpose. Without a bound, a flood of sign-ins would take all memory and
//! all processors, so callers wait for their turn, and are refused when too many wait already.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// Shortest password that is accepted for a new account, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// Longest password that is hashed, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Sign-ins that may wait for their turn; one more is told to try again.
const WAITING_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has at least {PASSWORD_CHARS_MIN} characters")]
    TooShort,
    #[error("a password has at most {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// Too many sign-ins at the moment.
    #[error("too many sign-ins at the moment; try again")]
    Busy,
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// Hashes and verifies with bounded concurrency. Clones share the bound.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Hash of a password that nobody has, so that an unknown e-mail takes as long as a wrong password.
    decoy: Arc<str>,
}

impl Passwords {
    /// `concurrent_max`: how many may be computed at a time; half the processors is a good number.
    pub fn new(concurrent_max: usize) -> Result<Self, PasswordError> {
        let decoy = hash_now(&crate::secret::generate(""))?;
        Ok(Self { turns: Arc::new(Semaphore::new(concurrent_max.max(1))), waiting: Arc::default(), decoy: decoy.into() })
    }

    /// The PHC string to store.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        check(&password)?;
        self.in_turn(move || hash_now(&password)).await?
    }

    /// Whether the password is right. `stored` is `None` for an account that does not exist or has no password: the
    /// answer is then false after the same time.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, PasswordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let real = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.decoy.to_string());
        let right = self.in_turn(move || verify_now(&password, &stored)).await?;
        Ok(right && real)
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if waiting >= WAITING_MAX {
            return Err(PasswordError::Busy);
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
        .map_err(|panic| PasswordError::Hash(panic.to_string()))
    }
}

fn check(password: &str) -> Result<(), PasswordError> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(PasswordError::TooShort);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::TooLong);
    }
    Ok(())
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    let hashed = Argon2::default().hash_password(password.as_bytes()).map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(hashed.to_string())
}

fn verify_now(password: &str, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|stored| Argon2::default().verify_password(password.as_bytes(), &stored).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_real_account_verifies() {
        let passwords = Passwords::new(1).unwrap();
        let stored = passwords.hash("correct horse".into()).await.unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".into(), Some(stored.clone())).await.unwrap());
        assert!(!passwords.verify("correct horsf".into(), Some(stored)).await.unwrap());
        assert!(!passwords.verify("correct horse".into(), None).await.unwrap());
        assert!(!passwords.verify("correct horse".into(), Some("not a hash".into())).await.unwrap());
    }

    #[tokio::test]
    async fn passwords_that_are_too_short_or_too_long_are_refused() {
        let passwords = Passwords::new(1).unwrap();
        assert!(matches!(passwords.hash("seven77".into()).await, Err(PasswordError::TooShort)));
        assert!(matches!(passwords.hash("x".repeat(1025)).await, Err(PasswordError::TooLong)));
    }
}
