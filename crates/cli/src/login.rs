//! VMs that start when their user logs in: a unit of systemd's user manager, or a launch agent on macOS.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tearless_bundle::Bundle;

/// The file by which the host's service manager knows a VM.
struct Entry {
    path: PathBuf,
    text: String,
    /// What has the manager start it, where the file alone does not.
    link: Option<PathBuf>,
}

/// Has `bundle` start at each login. Returns what was done, for people.
pub fn enable(bundle: &Bundle) -> Result<String> {
    let entry = entry(bundle)?;
    if let Some(text) = read(&entry.path)?
        && !is_of(&text, bundle)
    {
        bail!(
            "cannot have {} start at login\n  because: {} starts another VM of that name\n  try: tearless rename, for one \
             of them",
            bundle.name(),
            entry.path.display()
        );
    }
    write(&entry.path, &entry.text)?;
    if let Some(link) = &entry.link {
        make_parent(link)?;
        match symlink(&entry.path, link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("cannot make {}", link.display()));
            }
            _ => {}
        }
    }
    let path = entry.path.display();
    Ok(if cfg!(target_os = "macos") {
        format!("{} starts when you log in: wrote {path}", bundle.name())
    } else {
        format!(
            "{} starts when you log in: wrote {path}; `loginctl enable-linger` has that be when the host starts",
            bundle.name()
        )
    })
}

/// Has `bundle` not start at login. Returns whether it did.
pub fn disable(bundle: &Bundle) -> Result<bool> {
    let entry = entry(bundle)?;
    if !read(&entry.path)?.is_some_and(|text| is_of(&text, bundle)) {
        return Ok(false);
    }
    for path in entry.link.iter().chain([&entry.path]) {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(true)
}

/// Whether `bundle` starts at login.
pub fn is_enabled(bundle: &Bundle) -> bool {
    entry(bundle)
        .and_then(|entry| read(&entry.path))
        .is_ok_and(|text| text.is_some_and(|t| is_of(&t, bundle)))
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Whether the file with `text` is for this VM and not for one of the same name in another place.
fn is_of(text: &str, bundle: &Bundle) -> bool {
    let path = place(bundle);
    let path = path.to_string_lossy();
    text.contains(&quoted(&path)) || text.contains(&element(&path))
}

/// Where the VM lies, from everywhere.
fn place(bundle: &Bundle) -> PathBuf {
    // It fails for an empty path only.
    std::path::absolute(bundle.path()).unwrap_or_else(|_| bundle.path().to_owned())
}

fn entry(bundle: &Bundle) -> Result<Entry> {
    let place = place(bundle);
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let program = env::current_exe().context("cannot find the tearless program")?;
    let (Some(program), Some(path)) = (program.to_str(), place.to_str()) else {
        bail!(
            "cannot have {} start at login\n  because: a path is not UTF-8\n  try: another folder",
            bundle.name()
        );
    };
    let home = home.context("cannot tell where services are kept: HOME is not set")?;
    let command = [program, "run", "--detached", path];
    Ok(if cfg!(target_os = "macos") {
        launch_agent(&home, bundle.name(), &command)
    } else {
        unit(&config.unwrap_or_else(|| home.join(".config")), bundle.name(), &command)
    })
}

/// systemd's user manager: `systemd.unit(5)`, `systemd.service(5)`. It ends the VM as `stop` does.
fn unit(config: &Path, name: &str, command: &[&str]) -> Entry {
    // As systemd-escape(1) does it.
    let escaped: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect();
    let file = format!("tearless-{escaped}.service");
    let folder = config.join("systemd/user");
    let command: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    let text = format!(
        "[Unit]\nDescription=Virtual machine {} (Tearless)\n\n[Service]\nType=exec\nExecStart={}\nKillMode=mixed\n\
         TimeoutStopSec=60\n\n[Install]\nWantedBy=default.target\n",
        name.replace('%', "%%"),
        command.join(" ")
    );
    let link = Some(folder.join("default.target.wants").join(&file));
    Entry { path: folder.join(file), text, link }
}

/// A word of a command, as systemd reads it.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// macOS: `launchd.plist(5)`.
fn launch_agent(home: &Path, name: &str, command: &[&str]) -> Entry {
    let label = format!("org.tearless.vm.{name}");
    let command: String = command.iter().map(|word| format!("    {}\n", element(word))).collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n<dict>\n  <key>Label</key>\n  \
         {}\n  <key>ProgramArguments</key>\n  <array>\n{command}  </array>\n  <key>RunAtLoad</key>\n  <true/>\n  \
         <key>ExitTimeOut</key>\n  <integer>60</integer>\n</dict>\n</plist>\n",
        element(&label)
    );
    Entry { path: home.join("Library/LaunchAgents").join(format!("{label}.plist")), text, link: None }
}

fn element(text: &str) -> String {
    format!("<string>{}</string>", text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: [&str; 4] = ["/opt/a b/tearless", "run", "--detached", "/vms/50% \"x\" & $y.vm"];

    #[test]
    fn units_quote_what_systemd_would_read_otherwise() {
        let entry = unit(Path::new("/c"), "web", &COMMAND);
        assert_eq!(entry.path, Path::new("/c/systemd/user/tearless-web.service"));
        assert_eq!(
            entry.link.as_deref(),
            Some(Path::new("/c/systemd/user/default.target.wants/tearless-web.service"))
        );
        let line =
            "ExecStart=\"/opt/a b/tearless\" \"run\" \"--detached\" \"/vms/50%% \\\"x\\\" & $$y.vm\"\n";
        assert!(entry.text.contains(line), "{}", entry.text);
        let odd = unit(Path::new("/c"), "my 50%", &COMMAND);
        assert_eq!(odd.path, Path::new("/c/systemd/user/tearless-my\\x2050\\x25.service"));
        assert!(odd.text.contains("Virtual machine my 50%% (Tearless)"), "{}", odd.text);
    }

    #[test]
    fn launch_agents_are_property_lists() {
        let entry = launch_agent(Path::new("/Users/me"), "web", &COMMAND);
        assert_eq!(entry.path, Path::new("/Users/me/Library/LaunchAgents/org.tearless.vm.web.plist"));
        assert!(entry.text.contains("<string>/vms/50% \"x\" &amp; $y.vm</string>"), "{}", entry.text);
        assert!(entry.text.contains("<key>RunAtLoad</key>\n  <true/>"), "{}", entry.text);
    }
}
