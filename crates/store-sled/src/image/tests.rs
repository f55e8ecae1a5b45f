//! Every bit and every cut of an image is noticed.

use std::fs;

use resurge_commit_log::OsVfs;
use resurge_store::{ErrorKind, Namespace, StoreError};

use super::*;

const ID: [u8; 16] = *b"a store's own id";

fn key(name: &str) -> Key {
    Namespace::new("app").unwrap().key(name).unwrap()
}

fn write(path: &Path, entries: &[(Key, Bytes)]) -> u64 {
    let mut writer = ImageWriter::create(&OsVfs, path.to_owned(), ID, 3).unwrap();
    for (key, value) in entries {
        writer.add(key, value).unwrap();
    }
    writer.finish(5).unwrap()
}

/// Reads it; verifying has to say the same.
fn read(path: &Path) -> Result<Vec<(Key, Bytes)>> {
    let verified = ImageReader::open(&OsVfs, path, &ID).and_then(ImageReader::verify);
    let entries = read_entries(path);
    let complaint = |e: &StoreError| e.to_string();
    assert_eq!(verified.as_ref().err().map(complaint), entries.as_ref().err().map(complaint));
    entries
}

fn read_entries(path: &Path) -> Result<Vec<(Key, Bytes)>> {
    let mut reader = ImageReader::open(&OsVfs, path, &ID)?;
    let mut entries = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        entries.extend(chunk);
    }
    assert_eq!(reader.entries(), entries.len() as u64);
    Ok(entries)
}

fn small() -> Vec<(Key, Bytes)> {
    (0..20).map(|n| (key(&format!("k{n:03}")), Bytes::from(vec![n; usize::from(n)]))).collect()
}

#[test]
fn it_is_read_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    let mut entries = small();
    // Several chunks, one of them with the largest value.
    for n in 0..5 {
        entries.push((key(&format!("m{n}")), Bytes::from(vec![n; 700_000])));
    }
    entries.push((key("z"), Bytes::from(vec![9; 16 << 20])));
    let len = write(&path, &entries);
    assert_eq!(fs::metadata(&path).unwrap().len(), len);
    assert_eq!(read(&path).unwrap(), entries);
    let reader = ImageReader::open(&OsVfs, &path, &ID).unwrap();
    assert_eq!(reader.span(), ImageSpan { begin: 3, end: 5 });
    reader.verify().unwrap();
    write(&path, &[]);
    assert_eq!(read(&path).unwrap(), []);
}

#[test]
fn every_truncation_and_every_flipped_bit_of_the_body_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    write(&path, &small());
    let whole = fs::read(&path).unwrap();
    for len in (0..4096).step_by(97).chain(4096..whole.len()) {
        fs::write(&path, &whole[..len]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Corrupt, "length {len}");
    }
    let header_bits = (0..80 * 8).chain(4000 * 8..4096 * 8);
    for bit in header_bits.chain(4096 * 8..whole.len() * 8) {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(&path, &longer).unwrap();
    assert!(read(&path).is_err());
    fs::write(&path, &whole).unwrap();
    assert_eq!(read(&path).unwrap(), small());
}

#[test]
fn chunks_of_another_image_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    write(&a, &small());
    let mut other = ImageWriter::create(&OsVfs, b.clone(), ID, 4).unwrap();
    for (key, value) in &small() {
        other.add(key, value).unwrap();
    }
    other.finish(5).unwrap();
    let mut mixed = fs::read(&a).unwrap();
    let body = fs::read(&b).unwrap();
    mixed.truncate(4096);
    mixed.extend_from_slice(&body[4096..]);
    fs::write(&a, mixed).unwrap();
    assert_eq!(read(&a).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn keys_that_do_not_ascend_are_refused_though_the_checksum_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    let mut entries = small();
    entries.swap(4, 5);
    write(&path, &entries);
    assert!(read(&path).unwrap_err().to_string().contains("ascend"));
    // Nor from one chunk to the next.
    let large = |n: u8| (key(&format!("m{n}")), Bytes::from(vec![n; 700_000]));
    write(&path, &[large(0), large(2), large(1), large(3)]);
    assert!(read(&path).unwrap_err().to_string().contains("ascend"));
    write(&path, &[large(0), large(1), large(2), large(3)]);
    assert_eq!(read(&path).unwrap().len(), 4);
}

#[test]
fn another_stores_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    write(&path, &small());
    let error = ImageReader::open(&OsVfs, &path, &[0; 16]).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error}");
}
