//! `offhook up`: every daemon in one process, each on its own thread, on the in-process bus.
use anyhow::{Context, Result};
use offhook_bus::Bus;
use offhook_link::{InProcessTaps, TapForm};
use offhook_runtime::{ConfigFile, Process, health_port};
use std::path::Path;
use std::process::ExitCode;

pub fn up(path: Option<&Path>, dev: bool) -> Result<ExitCode> {
    let config = ConfigFile::load(path)?;
    let data_dir = config.storage()?.data_dir;
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

/// For the person at the terminal; the log goes to standard error.
fn print_banner(lines: &[String], data_dir: &Path) {
    println!("\nOffhook is running; its data is in {}", data_dir.display());
    for line in lines {
        println!("  {}", line.trim());
    }
    println!("Ctrl-C ends it when running calls have come to their end; pressed twice, at once.\n");
}
