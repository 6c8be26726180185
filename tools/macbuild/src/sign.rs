//! Signatures without an identity ("ad hoc"): hashes of all pages, and the entitlements, in the form that XNU reads and in the
//! older one (`cs_blobs.h`). Numbers are big-endian.

use anyhow::{Context, Result, bail, ensure};
use plist::Value;
use sha2::{Digest, Sha256};

use crate::macho::Layout;

const SUPER_BLOB: u32 = 0xfade_0cc0;
const CODE_DIRECTORY: u32 = 0xfade_0c02;
const REQUIREMENTS: u32 = 0xfade_0c01;
const ENTITLEMENTS: u32 = 0xfade_7171;
const DER_ENTITLEMENTS: u32 = 0xfade_7172;
const CMS: u32 = 0xfade_0b01;

/// The slots of the super blob; those of the directory's special hashes are the same numbers.
const SLOT_DIRECTORY: u32 = 0;
const SLOT_REQUIREMENTS: u32 = 2;
const SLOT_ENTITLEMENTS: u32 = 5;
const SLOT_DER: u32 = 7;
const SLOT_CMS: u32 = 0x10000;

const ADHOC: u32 = 2;
/// The main program, as opposed to a library.
const MAIN_BINARY: u64 = 1;
const VERSION: u32 = 0x2_0400;
const HASH: usize = 32;
const HASH_SHA256: u8 = 2;
const PAGE_SHIFT: u8 = 12;
const DIRECTORY_HEADER: usize = 88;

fn blob(magic: u32, content: &[u8]) -> Vec<u8> {
    let mut blob = magic.to_be_bytes().to_vec();
    blob.extend((content.len() as u32 + 8).to_be_bytes());
    blob.extend(content);
    blob
}

/// `file` with an ad-hoc signature as `identifier`, which has `entitlements` (a property list).
///
/// # Errors
/// When the file is no program, or the entitlements are no plain ones.
pub fn sign(file: &[u8], identifier: &str, entitlements: &str) -> Result<Vec<u8>> {
    let layout = Layout::of(file)?;
    let blobs = [
        (SLOT_REQUIREMENTS, blob(REQUIREMENTS, &0_u32.to_be_bytes())),
        (SLOT_ENTITLEMENTS, blob(ENTITLEMENTS, entitlements.as_bytes())),
        (SLOT_DER, blob(DER_ENTITLEMENTS, &der_entitlements(entitlements)?)),
    ];
    // How large it is does not depend on the hashes, but those on how large it is: the load commands have its size.
    let size = super_blob(&directory(file, &layout, identifier, &blobs), &blobs).len().next_multiple_of(16);
    let mut signed = file.to_vec();
    layout.resize(&mut signed, size)?;
    let mut signature = super_blob(&directory(&signed, &layout, identifier, &blobs), &blobs);
    signature.resize(size, 0);
    signed.extend(signature);
    Ok(signed)
}

fn super_blob(directory: &[u8], blobs: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let cms = blob(CMS, &[]);
    let first = [(SLOT_DIRECTORY, directory)];
    let all = first.into_iter().chain(blobs.iter().map(|(slot, blob)| (*slot, blob.as_slice())));
    let all: Vec<_> = all.chain([(SLOT_CMS, cms.as_slice())]).collect();
    let mut content = (all.len() as u32).to_be_bytes().to_vec();
    let mut offset = 12 + 8 * all.len() as u32;
    for (slot, blob) in &all {
        content.extend(slot.to_be_bytes());
        content.extend(offset.to_be_bytes());
        offset += blob.len() as u32;
    }
    all.iter().for_each(|(_, blob)| content.extend(*blob));
    blob(SUPER_BLOB, &content)
}

fn directory(file: &[u8], layout: &Layout, identifier: &str, blobs: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let code = &file[..layout.code_end];
    let pages: Vec<_> = code.chunks(1 << PAGE_SHIFT).map(Sha256::digest).collect();
    let name = [identifier.as_bytes(), &[0]].concat();
    let special = SLOT_DER as usize;
    let hashes = DIRECTORY_HEADER + name.len() + special * HASH;
    let mut content = Vec::new();
    // What `blob` puts before counts.
    for number in [VERSION, ADHOC, hashes as u32, DIRECTORY_HEADER as u32] {
        content.extend(number.to_be_bytes());
    }
    for number in [SLOT_DER, pages.len() as u32, layout.code_end as u32] {
        content.extend(number.to_be_bytes());
    }
    content.extend([HASH as u8, HASH_SHA256, 0, PAGE_SHIFT]);
    // Spare, scatter, team, spare; the 64-bit limit.
    content.extend([0; 16]);
    content.extend(0_u64.to_be_bytes());
    for number in [0, layout.text as u64, MAIN_BINARY] {
        content.extend(number.to_be_bytes());
    }
    content.extend(&name);
    for slot in (1..=SLOT_DER).rev() {
        match blobs.iter().find(|(of, _)| *of == slot) {
            Some((_, blob)) => content.extend(Sha256::digest(blob)),
            None => content.extend([0; HASH]),
        }
    }
    pages.iter().for_each(|hash| content.extend(hash));
    blob(CODE_DIRECTORY, &content)
}

/// The names that `entitlements` has; all of them are to be true, sorted, as the DER form wants them.
fn names(entitlements: &str) -> Result<Vec<String>> {
    let value =
        Value::from_reader_xml(entitlements.as_bytes()).context("the entitlements are no property list")?;
    let dictionary = value.into_dictionary().context("the entitlements are no dictionary")?;
    ensure!(dictionary.values().all(|value| value.as_boolean() == Some(true)), "an entitlement is not true");
    let mut names: Vec<_> = dictionary.keys().cloned().collect();
    names.sort();
    Ok(names)
}

/// DER: `[APPLICATION 16] { INTEGER 1, [CONTEXT 16] { SEQUENCE { UTF8String, BOOLEAN }... } }`.
fn der_entitlements(entitlements: &str) -> Result<Vec<u8>> {
    let pair = |name: String| der(0x30, &[der(0x0c, name.as_bytes()), der(0x01, &[0xff])].concat());
    let pairs: Vec<u8> = names(entitlements)?.into_iter().flat_map(pair).collect();
    Ok(der(0x70, &[der(0x02, &[1]), der(0xb0, &pairs)].concat()))
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ ..0x80 => out.push(short as u8),
        length => {
            let bytes = length.to_be_bytes();
            let used = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | used.len() as u8);
            out.extend(used);
        }
    }
    out.extend(content);
    out
}

fn be32(bytes: &[u8], at: usize) -> Result<u32> {
    let word = at.checked_add(4).and_then(|end| bytes.get(at..end)).context("the signature is cut short")?;
    Ok(u32::from_be_bytes(word.try_into()?))
}

/// Checks the hashes of all pages and blobs of `file`, and that both forms of the entitlements say the same. Returns the
/// entitlements, a line for each.
///
/// # Errors
/// Says what does not fit.
pub fn verify(file: &[u8]) -> Result<String> {
    let layout = Layout::of(file)?;
    let end = layout.code_end.checked_add(layout.signature).context("the signature is too long")?;
    ensure!(end == file.len(), "the signature is not at the end of the file");
    let signature = file.get(layout.code_end..).context("the signature is outside the file")?;
    ensure!(be32(signature, 0)? == SUPER_BLOB, "there is no signature");
    let mut blobs = Vec::new();
    for index in 0..be32(signature, 8)? as usize {
        let (slot, offset) = (be32(signature, 12 + 8 * index)?, be32(signature, 16 + 8 * index)? as usize);
        let length = be32(signature, offset + 4)? as usize;
        blobs.push((slot, signature.get(offset..offset + length).context("a blob is cut short")?));
    }
    let find = |slot| blobs.iter().find(|(of, _)| *of == slot).map(|(_, blob)| *blob);
    let directory = find(SLOT_DIRECTORY).context("there is no code directory")?;
    ensure!(be32(directory, 12)? & ADHOC != 0, "it is not signed ad hoc");
    let (hashes, special) = (be32(directory, 16)? as usize, be32(directory, 24)? as usize);
    let (pages, limit) = (be32(directory, 28)? as usize, be32(directory, 32)? as usize);
    ensure!(limit == layout.code_end, "it signs another part of the file");
    let hash = |at: usize| directory.get(at..at + HASH).context("the code directory is cut short");
    let code = file.get(..limit).context("the file is cut short")?;
    ensure!(code.chunks(1 << PAGE_SHIFT).len() == pages, "it has hashes of another number of pages");
    for (index, page) in code.chunks(1 << PAGE_SHIFT).enumerate() {
        if hash(hashes + index * HASH)? != Sha256::digest(page).as_slice() {
            bail!("page {index} is not what was signed");
        }
    }
    for slot in 1..=special {
        let signed = hash(hashes - slot * HASH)?;
        let found = find(slot as u32).map(|blob| Sha256::digest(blob).to_vec());
        ensure!(found.unwrap_or_else(|| vec![0; HASH]) == signed, "blob {slot} is not what was signed");
    }
    let text = find(SLOT_ENTITLEMENTS).and_then(|blob| blob.get(8..)).context("it has no entitlements")?;
    let text = std::str::from_utf8(text)?;
    let der = find(SLOT_DER).and_then(|blob| blob.get(8..));
    ensure!(der == Some(der_entitlements(text)?.as_slice()), "the two forms of the entitlements differ");
    Ok(names(text)?.iter().map(|name| format!("{name}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = include_str!("../entitlements.plist");

    /// A program with the load commands that matter, two pages of code and a signature of 16 bytes.
    fn program() -> Vec<u8> {
        let mut file = Vec::new();
        let words =
            |file: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|w| file.extend(w.to_le_bytes()));
        words(&mut file, &[0xfeed_facf, 0x0100_000c, 0, 2, 3, 160, 0, 0]);
        for (name, begin, size) in [("__TEXT", 0_u64, 4096_u64), ("__LINKEDIT", 4096, 5016 - 4096)] {
            words(&mut file, &[0x19, 72]);
            let mut padded = [0; 16];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            file.extend(padded);
            for number in [begin, size.next_multiple_of(0x4000), begin, size, 0, 0] {
                file.extend(number.to_le_bytes());
            }
        }
        words(&mut file, &[0x1d, 16, 5000, 16]);
        file.resize(5016, 7);
        file
    }

    #[test]
    fn what_is_signed_is_verified_and_can_be_signed_again() {
        let signed = sign(&program(), "tearless", LIST).unwrap();
        let names = "com.apple.security.hypervisor\ncom.apple.security.virtualization\n";
        assert_eq!(verify(&signed).unwrap(), names);
        assert_eq!(sign(&signed, "tearless", LIST).unwrap(), signed);
        assert!(verify(&program()).is_err(), "no signature");
    }

    #[test]
    fn each_change_is_noticed() {
        let signed = sign(&program(), "tearless", LIST).unwrap();
        let blobs = signed.len() - 1500;
        for at in [100, 4097, 4999, blobs, signed.len() - 600] {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(verify(&changed).is_err(), "{at}");
        }
        for length in 0..signed.len() {
            assert!(verify(&signed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn entitlements_are_der_as_apple_writes_it() {
        let list = LIST
            .replace("com.apple.security.hypervisor", "a")
            .replace("com.apple.security.virtualization", "b");
        let expected =
            b"\x70\x15\x02\x01\x01\xb0\x10\x30\x06\x0c\x01a\x01\x01\xff\x30\x06\x0c\x01b\x01\x01\xff";
        assert_eq!(der_entitlements(&list).unwrap(), expected);
        assert!(der_entitlements(&LIST.replace("<true/>", "<false/>")).is_err());
    }
}
