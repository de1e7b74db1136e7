//! `offhook up`: every daemon in one process, each on its own thread, on the in-process bus.
use anyhow::{Context, Result};
use offhook_bus::Bus;
use offhook_link::{InProcessTaps, TapForm};
use offhook_runtime::{ConfigFile, Process, health_port, restrict_new_files};
use rustix::fs::Access;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub fn up(path: Option<&Path>, dev: bool) -> Result<ExitCode> {
    let config = ConfigFile::load(path)?;
    let data_dir = make_data_dir(config.storage()?.data_dir)?;
    let relays = config.turn()?.enabled;
    let bus = Bus::in_process(&config.bus()?.cluster).context("bus.cluster")?;
    let taps = TapForm::InProcess(InProcessTaps::default());
    let mut process = Process::new(config, health_port(None), dev)?;
    process.share_threads();
    process.add(&offhook_sfu::SFU, &bus, &taps)?;
    if relays {
        // Calls go on where its ports are taken, by coturn or a web server.
        process.add_optional(&offhook_turn::TURN, &bus, &taps)?;
    }
    process.add(&offhook_sip::SIP_GATEWAY, &bus, &taps)?;
    process.add(&offhook_recorder::RECORDER, &bus, &taps)?;
    process.add(&offhook_control::CONTROL, &bus, &taps)?;
    let code = process.run(&bus, move |lines| print_banner(&lines, &data_dir))?;
    Ok(code)
}

/// Every daemon needs it: better one refusal here than one of each. In full, so that the banner says where it is.
fn make_data_dir(data_dir: PathBuf) -> Result<PathBuf> {
    restrict_new_files();
    let doing = || format!("cannot use the directory of [storage] data_dir, {}", data_dir.display());
    std::fs::create_dir_all(&data_dir).with_context(doing)?;
    rustix::fs::access(&data_dir, Access::WRITE_OK | Access::EXEC_OK).with_context(doing)?;
    std::path::absolute(&data_dir).with_context(doing)
}

/// For the person at the terminal; the log goes to standard error.
fn print_banner(lines: &[String], data_dir: &Path) {
    println!("\nOffhook is running; its data is in {}", data_dir.display());
    for line in lines {
        println!("  {}", line.trim());
    }
    println!("Ctrl-C ends it when running calls have come to their end; pressed twice, at once.\n");
}
