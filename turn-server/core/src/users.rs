//! Who may log in: static users, REST credentials under any number of secrets, or both at once.
use offhook_wire_stun::credentials;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How a password becomes a key (RFC 8489 §18.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Md5,
    Sha256,
}

/// The key of the long-term mechanism, 16 or 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    bytes: [u8; 32],
    pub(crate) algorithm: Algorithm,
}

impl Key {
    pub(crate) fn of(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::md5(credentials::long_term_key(user, realm, password)),
            Algorithm::Sha256 => Self { bytes: credentials::long_term_key_sha256(user, realm, password), algorithm },
        }
    }

    fn md5(key: [u8; 16]) -> Self {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(key).for_each(|(slot, byte)| *slot = byte);
        Self { bytes, algorithm: Algorithm::Md5 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self.algorithm {
            Algorithm::Md5 => self.bytes.split_at(16).0,
            Algorithm::Sha256 => &self.bytes,
        }
    }
}

/// What a static user proves to know.
#[derive(Clone, PartialEq, Eq)]
pub enum UserSecret {
    Password(Box<str>),
    /// MD5 of `user:realm:password`, as `turnadmin -k` prints it behind `0x`. Good for MD5 only.
    Key([u8; 16]),
}

impl UserSecret {
    /// A key as `turnadmin` prints it and the `turnusers_lt` table holds it, without `0x`.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut key = [0; 16];
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        Some(Self::Key(key))
    }
}

impl fmt::Debug for UserSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a name opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownUser {
    #[error("no such user")]
    Name,
    #[error("no user has this USERHASH; names under REST credentials cannot be hashed")]
    Hash,
    #[error("the REST username carries no expiry time")]
    NoExpiry,
    #[error("the REST credentials expired {0} s ago")]
    Expired(u64),
    #[error("the credentials were revoked")]
    Revoked,
    #[error("only an MD5 key of this user is known, and SHA-256 was chosen")]
    Md5Only,
}

/// Credentials of one realm.
#[derive(Clone, Default)]
pub struct Users {
    realm: Box<str>,
    statics: HashMap<Arc<str>, UserSecret>,
    hashes: HashMap<[u8; 32], Arc<str>>,
    rest_secrets: Vec<Box<[u8]>>,
    /// REST credentials of an account that end by then open nothing any more.
    revoked: Arc<HashMap<Arc<str>, u64>>,
    separator: char,
    anyone: bool,
    /// Somebody's password is not known, but MD5 of it.
    knows_md5_only: bool,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { realm, statics, rest_secrets, anyone, separator, .. } = self;
        write!(f, "Users {{ realm: {realm:?}, {} users, {} secrets", statics.len(), rest_secrets.len())?;
        write!(f, ", separator: {separator:?}")?;
        f.write_str(if *anyone { ", no authentication }" } else { " }" })
    }
}

impl Users {
    #[must_use]
    pub fn new(realm: &str) -> Self {
        Self { realm: realm.into(), separator: ':', ..Self::default() }
    }

    /// A later one of the same name replaces the earlier.
    pub fn add(&mut self, name: &str, secret: UserSecret) -> &mut Self {
        let name: Arc<str> = name.into();
        self.knows_md5_only |= matches!(secret, UserSecret::Key(_));
        self.hashes.insert(credentials::userhash(&name, &self.realm), Arc::clone(&name));
        self.statics.insert(name, secret);
        self
    }

    /// Whether a static user of this name was added.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.statics.contains_key(name)
    }

    /// Users may come of whom MD5 keys alone are known.
    pub const fn expect_md5_keys(&mut self) -> &mut Self {
        self.knows_md5_only = true;
        self
    }

    /// One more secret under which REST credentials are good.
    pub fn add_rest_secret(&mut self, secret: &[u8]) -> &mut Self {
        self.rest_secrets.push(secret.into());
        self
    }

    /// What stands between expiry and user in a REST username; a colon unless told.
    pub const fn set_separator(&mut self, separator: char) -> &mut Self {
        self.separator = separator;
        self
    }

    /// REST credentials of `account` that were given out before now, and end at `until_unix_s` at the latest, open nothing
    /// any more; later ones do.
    pub fn revoke(&mut self, account: &str, until_unix_s: u64) -> &mut Self {
        let until = Arc::make_mut(&mut self.revoked).entry(account.into()).or_default();
        *until = until_unix_s.max(*until);
        self
    }

    /// Who stands behind a name: under REST credentials the part beside the expiry time. Quotas and revocation go by it.
    #[must_use]
    pub fn account<'a>(&self, name: &'a str) -> &'a str {
        let Some((first, second)) = name.split_once(self.separator) else { return name };
        let expires = |text: &str| !text.contains(':') && credentials::expiry(text).is_ok();
        match (self.statics.contains_key(name), expires(first), expires(second)) {
            (false, true, _) if !second.is_empty() => second,
            (false, false, true) if !first.is_empty() => first,
            _ => name,
        }
    }

    /// `no-auth`: nobody is asked.
    pub const fn admit_anyone(&mut self) -> &mut Self {
        self.anyone = true;
        self
    }

    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    #[must_use]
    pub const fn admits_anyone(&self) -> bool {
        self.anyone
    }

    /// Nobody can log in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statics.is_empty() && self.rest_secrets.is_empty()
    }

    /// Whether a challenge may offer SHA-256. Who is challenged is not known yet, and a client that chose SHA-256 is not to
    /// try again by MD5 (RFC 8489 §9.2.5): where one user has an MD5 key alone, it is offered to nobody.
    pub(crate) const fn offers_sha256(&self) -> bool {
        !self.knows_md5_only
    }

    /// REST secrets of `before` that are none any more.
    pub(crate) fn secrets_removed_since<'a>(&self, before: &'a Self) -> Vec<&'a [u8]> {
        before
            .rest_secrets
            .iter()
            .filter(|secret| !self.rest_secrets.contains(secret))
            .map(|secret| &**secret)
            .collect()
    }

    /// Whether `key` is that of a REST username under one of these secrets.
    pub(crate) fn is_minted_under(&self, secrets: &[&[u8]], name: &str, key: &Key) -> bool {
        let minted =
            |secret: &&[u8]| Key::of(key.algorithm, name, &self.realm, &credentials::password(secret, name)) == *key;
        self.is_rest_name(name) && secrets.iter().any(minted)
    }

    pub(crate) fn has_hashes(&self) -> bool {
        !self.hashes.is_empty()
    }

    pub(crate) fn by_hash(&self, hash: &[u8; 32]) -> Result<&str, UnknownUser> {
        self.hashes.get(hash).map(|name| &**name).ok_or(UnknownUser::Hash)
    }

    /// Whether one of this user's keys opens the message, and which. `opens` compares in constant time.
    ///
    /// `Ok(None)`: the name is known, the password was wrong.
    pub(crate) fn find_key(
        &self,
        name: &str,
        algorithm: Algorithm,
        unix_s: u64,
        revoked: &HashMap<Arc<str>, u64>,
        opens: impl Fn(&Key) -> bool,
    ) -> Result<Option<Key>, UnknownUser> {
        let key = |password: &str| Key::of(algorithm, name, &self.realm, password);
        match self.statics.get(name) {
            Some(UserSecret::Password(password)) => return Ok(Some(key(password)).filter(opens)),
            Some(UserSecret::Key(md5)) if algorithm == Algorithm::Md5 => {
                return Ok(Some(Key::md5(*md5)).filter(opens));
            }
            Some(UserSecret::Key(_)) => return Err(UnknownUser::Md5Only),
            None if self.rest_secrets.is_empty() => return Err(UnknownUser::Name),
            None => {}
        }
        let expires = self.expiry(name).ok_or(UnknownUser::NoExpiry)?;
        if expires <= unix_s {
            return Err(UnknownUser::Expired(unix_s - expires));
        }
        if revoked.get(self.account(name)).is_some_and(|until| expires <= *until) {
            return Err(UnknownUser::Revoked);
        }
        Ok(self.rest_secrets.iter().map(|secret| key(&credentials::password(secret, name))).find(opens))
    }

    /// Whether the name bears a time, by which its credentials end.
    pub(crate) fn is_rest_name(&self, name: &str) -> bool {
        self.rest_expiry(name).is_some()
    }

    /// When the credentials of a name end that is no static user's.
    #[must_use]
    pub fn rest_expiry(&self, name: &str) -> Option<u64> {
        if self.statics.contains_key(name) { None } else { self.expiry(name) }
    }

    pub(crate) const fn revoked(&self) -> &Arc<HashMap<Arc<str>, u64>> {
        &self.revoked
    }

    /// The time before the separator, behind it, or alone (as coturn reads it).
    fn expiry(&self, name: &str) -> Option<u64> {
        let (first, second) = name.split_once(self.separator).map_or((name, None), |(a, b)| (a, Some(b)));
        let whole = |text: &str| if text.contains(':') { None } else { credentials::expiry(text).ok() };
        whole(first).or_else(|| second.and_then(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let mut users = Users::new("example.org");
        users.add("alice", UserSecret::Password("sesame".into())).add_rest_secret(b"north");
        let shown = format!("{users:?} {:?}", UserSecret::Password("sesame".into()));
        assert!(!shown.contains("sesame") && !shown.contains("north"), "{shown}");
    }

    #[test]
    fn both_kinds_and_several_secrets_work_at_once() {
        let mut users = Users::new("example.org");
        users.add("alice", UserSecret::Password("sesame".into())).add_rest_secret(b"old").add_rest_secret(b"new");
        let find = |name: &str, password: &str, now| {
            let right = Key::of(Algorithm::Md5, name, "example.org", password);
            users.find_key(name, Algorithm::Md5, now, users.revoked(), |key| *key == right).map(|key| key.is_some())
        };
        assert_eq!(find("alice", "sesame", 0), Ok(true));
        assert_eq!(find("alice", "wrong", 0), Ok(false));
        assert_eq!(find("bob", "sesame", 0), Err(UnknownUser::NoExpiry));
        for secret in [&b"old"[..], b"new"] {
            assert_eq!(find("900:bob", &credentials::password(secret, "900:bob"), 899), Ok(true));
        }
        assert_eq!(find("900:bob", &credentials::password(b"other", "900:bob"), 899), Ok(false));
        assert_eq!(find("900:bob", "", 905), Err(UnknownUser::Expired(5)));
    }

    #[test]
    fn revoked_credentials_stay_out_and_later_ones_get_in() {
        let mut users = Users::new("r");
        users.add_rest_secret(b"s").revoke("bob", 900).revoke("bob", 800);
        let open =
            |name: &str| users.find_key(name, Algorithm::Md5, 0, users.revoked(), |_| true).map(|key| key.is_some());
        assert_eq!((open("900:bob"), open("bob:900")), (Err(UnknownUser::Revoked), Err(UnknownUser::Revoked)));
        assert_eq!((open("901:bob"), open("900:alice"), open("900")), (Ok(true), Ok(true), Ok(true)));
    }

    #[test]
    fn an_account_is_the_name_without_its_expiry() {
        let mut users = Users::new("r");
        users.add("7:x", UserSecret::Password("p".into()));
        for (name, account) in
            [("900:bob", "bob"), ("bob:900", "bob"), ("900", "900"), ("bob", "bob"), ("900:", "900:"), ("7:x", "7:x")]
        {
            assert_eq!(users.account(name), account, "{name}");
        }
    }

    #[test]
    fn the_separator_of_rest_names_can_be_another() {
        let mut users = Users::new("r");
        users.add_rest_secret(b"s").set_separator('!');
        assert_eq!(
            (users.expiry("900!bob"), users.expiry("900:bob"), users.expiry("900")),
            (Some(900), None, Some(900))
        );
    }
}
