//! Which configuration file is meant.
//!
//! Decides by the order of the contract and reads nothing. Knows nothing of what is in the file.

use std::path::{Path, PathBuf};

/// The file names that are looked for where nobody names one, in this order.
pub const USUAL: [&str; 2] = ["stellwerk.toml", "stellwerk-data/stellwerk.toml"];

/// The file that `--config` names, else `STELLWERK_CONFIG`, else the first usual one below
/// `folder` that exists; `None`: the defaults.
///
/// A file that was named is returned whether it exists or not, so that a misspelt name is an
/// error and never silently the defaults.
pub fn find(
    named: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
    folder: &Path,
) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.to_owned());
    }
    if let Some(path) = env("STELLWERK_CONFIG").filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    USUAL.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_flag_variable_folder_data_folder_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let none = |_: &str| None;
        let variable = |_: &str| Some("/etc/stellwerk.toml".to_owned());
        let find = |named, env: &dyn Fn(&str) -> Option<String>| find(named, env, folder.path());

        assert_eq!(find(None, &none), None);
        std::fs::create_dir(folder.path().join("stellwerk-data")).unwrap();
        std::fs::write(folder.path().join(USUAL[1]), "").unwrap();
        assert_eq!(find(None, &none), Some(folder.path().join(USUAL[1])));
        std::fs::write(folder.path().join(USUAL[0]), "").unwrap();
        assert_eq!(find(None, &none), Some(folder.path().join(USUAL[0])));
        assert_eq!(find(None, &variable), Some("/etc/stellwerk.toml".into()));
        assert_eq!(find(Some(Path::new("x.toml")), &variable), Some("x.toml".into()));
    }
}
