//! Embeds the built pages of web/dist, or one page that says how to build them.
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const STUB: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Offhook</title>\
<h1>Offhook is running, without its pages</h1>\
<p>This program was built without the softphone. With Node 20 or newer, run <code>npm ci &amp;&amp; npm run build</code> \
in the folder <code>web</code> and build again, or simply run <code>make run</code>.</p>\
<p>The API works: see <a href=\"/openapi.json\">openapi.json</a>.</p></html>\n";

fn main() -> io::Result<()> {
    let dist = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../web/dist");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default());
    // A folder that does not exist yet is watched through its parent.
    println!("cargo:rerun-if-changed={}", dist.display());
    println!("cargo:rerun-if-changed=migrations");
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        collect(&dist, "", &mut files)?;
    } else {
        let stub = out.join("stub.html");
        fs::write(&stub, STUB)?;
        files.push(("index.html".to_owned(), stub));
    }
    files.sort();
    let mut code = String::from("pub static PAGES: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        let path = path.canonicalize()?;
        let _ = writeln!(code, "    ({name:?}, include_bytes!({:?})),", path.display().to_string());
    }
    code.push_str("];\n");
    fs::write(out.join("pages.rs"), code)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), &format!("{name}/"), files)?,
            false => files.push((name, entry.path())),
        }
    }
    Ok(())
}
