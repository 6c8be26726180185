use super::*;
use crate::progress::Silent;
use crate::test_server::Server;

struct Scene {
    server: Server,
    cache: Cache,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { server: Server::start(), cache: Cache::at(dir.path().join("cache")), _dir: dir }
    }

    fn fetcher(&self) -> Fetcher<'static> {
        Fetcher::new(Mirror::choose(Some(&self.server.address)).unwrap(), self.cache.clone(), &Silent)
    }

    fn remote(&self, bytes: &[u8], paths: &[&str]) -> Remote {
        let urls = paths.iter().map(|p| self.fetcher().mirror().url(p)).collect();
        Remote { urls, size: bytes.len() as u64, digest: Digest::of(bytes) }
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.server.set(|s| s.requests.iter().map(|(_, range)| range.clone()).collect())
    }
}

fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn a_download_is_kept_and_served_from_the_cache() {
    let scene = Scene::new();
    scene.server.put("pool/x", &content());
    let wanted = scene.remote(&content(), &["pool/absent", "pool/x"]);
    let path = scene.fetcher().object("x", &wanted).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(scene.fetcher().object("x", &wanted).unwrap(), path);
    assert_eq!(scene.ranges().len(), 2, "one for each path, none for the cached file");
    assert!(!path.with_extension("partial").exists());
}

#[test]
fn a_broken_download_resumes_where_it_ended() {
    let scene = Scene::new();
    scene.server.put("pool/x", &content());
    scene.server.set(|s| s.break_after = Some(500_000));
    let path = scene.fetcher().object("x", &scene.remote(&content(), &["pool/x"])).unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    let ranges = scene.ranges();
    assert_eq!(ranges[0], None);
    let from: usize = ranges[1].as_ref().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap();
    assert!(from > 0 && from <= 500_000, "resumed at {from}");
}

#[test]
fn an_interrupted_process_left_a_partial_file() {
    for (left, no_ranges) in
        [(content()[..1000].to_vec(), false), (content()[..1000].to_vec(), true), (vec![9; 1000], false)]
    {
        let scene = Scene::new();
        scene.server.put("pool/x", &content());
        scene.server.set(|s| s.no_ranges = no_ranges);
        let wanted = scene.remote(&content(), &["pool/x"]);
        let mut partial = scene.cache.partial(&scene.cache.object(&wanted.digest)).unwrap().unwrap();
        partial.file.write_all(&left).unwrap();
        drop(partial);
        let path = scene.fetcher().object("x", &wanted).unwrap();
        assert_eq!(fs::read(path).unwrap(), content());
        assert_eq!(scene.ranges()[0].as_deref(), Some("bytes=1000-"));
    }
}

#[test]
fn wrong_content_is_refused_and_not_kept() {
    let scene = Scene::new();
    let wanted = scene.remote(&content(), &["pool/x"]);
    let mut altered = content();
    altered[77] ^= 1;
    let longer = [content(), vec![0]].concat();
    for served in [altered, longer] {
        scene.server.put("pool/x", &served);
        let error = scene.fetcher().object("x", &wanted).unwrap_err();
        assert_eq!(error.kind(), Kind::Integrity);
        assert!(error.to_string().contains("pool/x") && error.help().contains("--mirror"), "{error}");
        assert!(!scene.cache.object(&wanted.digest).exists());
    }
}

#[test]
fn a_damaged_cached_file_is_fetched_again() {
    let scene = Scene::new();
    scene.server.put("pool/x", &content());
    let wanted = scene.remote(&content(), &["pool/x"]);
    let path = scene.fetcher().object("x", &wanted).unwrap();
    fs::write(&path, vec![0; content().len()]).unwrap();
    assert_eq!(fs::read(scene.fetcher().object("x", &wanted).unwrap()).unwrap(), content());
}

#[test]
fn small_files_are_bounded_and_errors_are_told_apart() {
    let scene = Scene::new();
    scene.server.put("dists/x", b"12345");
    let fetcher = scene.fetcher();
    assert_eq!(fetcher.small("dists/x", 5).unwrap(), b"12345");
    assert_eq!(fetcher.small("dists/x", 4).unwrap_err().kind(), Kind::Integrity);
    assert_eq!(fetcher.small("dists/y", 4).unwrap_err().kind(), Kind::Missing);
    // A port that was just given back: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let offline = fetcher.with_mirror(Mirror::choose(Some(&format!("http://{free}/debian"))).unwrap());
    let error = offline.small("dists/x", 5).unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
    assert!(error.help().contains("--kernel"), "{error}");
}
