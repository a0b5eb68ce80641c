//! Names and contacts, sealed so that a copy of the database shows none of them.
//!
//! XChaCha20-Poly1305 under one 256-bit key that is kept outside the database. A sealed value is
//! `version (1 byte, 1) | nonce (24 random bytes) | ciphertext and tag`. District, person and field are authenticated with
//! it, so that a value moved to another row does not open.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rollcall_model::ids::{DistrictId, PersonId};
use sha2::{Digest, Sha256};

use crate::secret::fill_random;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The tag does not fit: another key, another row, or damage.
    #[error("a sealed {field} cannot be opened with this key: the vault key is not the one it was sealed with, or the row was altered")]
    WrongKey { field: Field },
    #[error("a sealed {field} has format version {found}; this program reads {VERSION}")]
    Version { field: Field, found: u8 },
    #[error("a sealed {field} is {len} bytes long, shorter than any can be")]
    Short { field: Field, len: usize },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the vault key is 64 hexadecimal digits{}", path.as_ref().map(|path| format!(" in {}", path.display())).unwrap_or_default())]
    Key { path: Option<PathBuf> },
    #[error("a {field} is too long to be sealed")]
    TooLong { field: Field },
}

/// What is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    Given,
    Family,
    /// JSON of e-mail and phone.
    Contact,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "given name",
            Self::Family => "family name",
            Self::Contact => "contact",
        })
    }
}

/// The only form in which names of people cross the crate. Debug prints none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PersonName {
    pub given: String,
    pub family: String,
}

impl fmt::Debug for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonName([redacted])")
    }
}

/// Seals and opens. Cheap to share behind an `Arc`.
pub struct Vault {
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault([redacted])")
    }
}

impl Vault {
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&Key::from(*key)) }
    }

    /// The key as configured: 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, VaultError> {
        parse_hex(text.trim()).map(|key| Self::new(&key)).ok_or(VaultError::Key { path: None })
    }

    /// The key in a file that only its owner may read; made with a random key if it is not there.
    pub fn open_or_create(path: &Path) -> Result<Self, VaultError> {
        let failed = |source| VaultError::Io { path: path.to_path_buf(), source };
        match fs::read_to_string(path) {
            Ok(text) => parse_hex(text.trim()).map(|key| Self::new(&key)).ok_or_else(|| VaultError::Key { path: Some(path.to_path_buf()) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_key_file(path).map_err(failed)?;
                Self::open_or_create(path)
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub fn seal(&self, district: DistrictId, person: PersonId, field: Field, text: &str) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce);
        let bound = bound_to(district, person, field);
        let payload = Payload { msg: text.as_bytes(), aad: &bound };
        let ciphertext = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::TooLong { field })?;
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    pub fn open(&self, district: DistrictId, person: PersonId, field: Field, sealed: &[u8]) -> Result<String, VaultError> {
        if sealed.len() < 1 + NONCE_BYTES + TAG_BYTES {
            return Err(VaultError::Short { field, len: sealed.len() });
        }
        if sealed[0] != VERSION {
            return Err(VaultError::Version { field, found: sealed[0] });
        }
        let (nonce, ciphertext) = sealed[1..].split_at(NONCE_BYTES);
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().expect("split at its length");
        let bound = bound_to(district, person, field);
        let opened = self.cipher.decrypt(&XNonce::from(nonce), Payload { msg: ciphertext, aad: &bound });
        opened.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(VaultError::WrongKey { field })
    }

    /// A key of a district for one purpose: the same as long as the vault's key is, and telling nothing of it or of any
    /// other derived key.
    pub fn derived_key(&self, district: DistrictId, purpose: &str) -> [u8; KEY_BYTES] {
        let digest: [u8; 32] =
            Sha256::new().chain_update(b"rollcall derived key").chain_update(district.as_bytes()).chain_update(purpose).finalize().into();
        let nonce: [u8; NONCE_BYTES] = digest[..NONCE_BYTES].try_into().expect("a digest is longer than a nonce");
        // The cipher's key stream for a nonce that no sealed value has but with the chance of a guessed one.
        let stream = self.cipher.encrypt(&XNonce::from(nonce), Payload { msg: &[0; KEY_BYTES], aad: &digest });
        let stream = stream.expect("thirty-two bytes are not too long to encrypt");
        stream[..KEY_BYTES].try_into().expect("as many bytes as went in, and the tag")
    }

    /// Both parts of a name; a part that is not there is empty.
    pub fn open_name(
        &self,
        district: DistrictId,
        person: PersonId,
        given_sealed: Option<&[u8]>,
        family_sealed: Option<&[u8]>,
    ) -> Result<PersonName, VaultError> {
        let part = |field, sealed: Option<&[u8]>| sealed.map_or(Ok(String::new()), |sealed| self.open(district, person, field, sealed));
        Ok(PersonName { given: part(Field::Given, given_sealed)?, family: part(Field::Family, family_sealed)? })
    }

    /// `(given_sealed, family_sealed)` of a name.
    pub fn seal_name(&self, district: DistrictId, person: PersonId, name: &PersonName) -> Result<(Vec<u8>, Vec<u8>), VaultError> {
        Ok((self.seal(district, person, Field::Given, &name.given)?, self.seal(district, person, Field::Family, &name.family)?))
    }
}

fn bound_to(district: DistrictId, person: PersonId, field: Field) -> [u8; 33] {
    let mut bound = [0; 33];
    bound[..16].copy_from_slice(district.as_bytes());
    bound[16..32].copy_from_slice(person.as_bytes());
    bound[32] = match field {
        Field::Given => 1,
        Field::Family => 2,
        Field::Contact => 3,
    };
    bound
}

/// Writes a new key beside its place and links it in, so that no one ever reads half a key, and of two programs that
/// start at once the first wins.
fn create_key_file(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut key = [0; KEY_BYTES];
    fill_random(&mut key);
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn parse_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_only() {
        let (district, person) = (DistrictId::random(), PersonId::random());
        let vault = Vault::new(&[7; 32]);
        let sealed = vault.seal(district, person, Field::Family, "Åström").unwrap();
        assert_eq!(vault.open(district, person, Field::Family, &sealed).unwrap(), "Åström");
        assert!(!sealed.windows(3).any(|window| window == b"str"));

        let wrong = Vault::new(&[8; 32]).open(district, person, Field::Family, &sealed).unwrap_err();
        assert!(wrong.to_string().contains("vault key is not the one"), "{wrong}");
        assert!(vault.open(district, PersonId::random(), Field::Family, &sealed).is_err());
        assert!(vault.open(district, person, Field::Given, &sealed).is_err());
        assert!(matches!(vault.open(district, person, Field::Family, &sealed[..20]), Err(VaultError::Short { .. })));
    }

    #[test]
    fn derived_keys_differ_by_district_purpose_and_vault() {
        let (one, other) = (DistrictId::from_bytes([1; 16]), DistrictId::from_bytes([2; 16]));
        let vault = Vault::new(&[7; 32]);
        let key = vault.derived_key(one, "analytics");
        assert_eq!(key, Vault::new(&[7; 32]).derived_key(one, "analytics"));
        assert_ne!(key, vault.derived_key(other, "analytics"));
        assert_ne!(key, vault.derived_key(one, "other"));
        assert_ne!(key, Vault::new(&[8; 32]).derived_key(one, "analytics"));
    }

    #[test]
    fn the_key_file_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/vault.key");
        let (district, person) = (DistrictId::random(), PersonId::random());
        let sealed = Vault::open_or_create(&path).unwrap().seal(district, person, Field::Given, "Ada").unwrap();
        assert_eq!(Vault::open_or_create(&path).unwrap().open(district, person, Field::Given, &sealed).unwrap(), "Ada");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left");

        fs::write(&path, "not a key").unwrap();
        assert!(matches!(Vault::open_or_create(&path), Err(VaultError::Key { path: Some(_) })));
    }
}
