//! CPU of every packet: up and down, paced and flat out, one allocation and a thousand.
use super::floor::Floor;
use super::load::{Carried, Field, Form, Load, Way};
use super::process::{Kind, Process};
use super::{Choice, median};
use crate::result;
use std::time::Duration;

const RATE: u32 = 50_000;
const LASTS: Duration = Duration::from_millis(1_000);
/// Before each measurement: the case's own caches, and what is left of the last one.
const WARM_UP: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 3;

struct Case {
    name: String,
    way: Way,
    form: Form,
    rate: Option<u32>,
}

/// Three relays at the same work.
struct Subjects {
    /// Ours and coturn, in this order; their processes live as long.
    servers: Vec<(Process, Field)>,
    floor: Floor,
    floor_field: Field,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    cpu_s_per_million: f64,
    /// Half of the packets were read so long after they were sent.
    delay_us: f64,
}

pub fn run(choice: &Choice) -> anyhow::Result<()> {
    let mut indications = Vec::new();
    for count in [1, 1_000] {
        let cases: Vec<Case> = cases(count).into_iter().filter(|case| choice.has(&case.name)).collect();
        if cases.is_empty() {
            continue;
        }
        let mut subjects = Subjects::start(count)?;
        let rounds = if choice.quick { QUICK_ROUNDS } else { ROUNDS };
        for case in &cases {
            let all = (0..rounds).map(|_| subjects.round(case)).collect::<anyhow::Result<Vec<_>>>()?;
            let figures = Figures::of(&all);
            figures.print(case);
            if case.form == Form::Indication {
                indications.push(figures);
            }
            if case.name == "up_50k_1000" {
                // In the round that was disturbed least; the generator's own 200 µs are in both.
                result("turn.coalesce_delay_us", figures.delay_us[0] - figures.delay_us[1], "us");
                result("turn.delay_us_ours", figures.delay_us[0], "us");
                result("turn.delay_us_coturn", figures.delay_us[1], "us");
            }
        }
    }
    if let [up, down] = indications.as_slice() {
        // One figure for both ways: a browser that sends indications is sent indications.
        let ratio = (up.ours + down.ours) / (up.coturn + down.coturn);
        result("turn.cpu_ratio_coturn_indication_50k_1000", ratio, "ratio");
    }
    Ok(())
}

fn cases(count: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for (way, way_name) in [(Way::Up, "up"), (Way::Down, "down")] {
        for (rate, rate_name) in [(Some(RATE), "50k"), (None, "max")] {
            cases.push(Case { name: format!("{way_name}_{rate_name}_{count}"), way, form: Form::Channel, rate });
        }
        if count > 1 {
            let name = format!("indication_{way_name}_50k_{count}");
            cases.push(Case { name, way, form: Form::Indication, rate: Some(RATE) });
        }
    }
    cases
}

impl Subjects {
    fn start(count: usize) -> anyhow::Result<Self> {
        let start = |kind| {
            let process = Process::start(kind)?;
            let field = Field::allocate(process.address, count)?;
            Ok((process, field))
        };
        let servers = Kind::BOTH.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let (floor, floor_field) = Floor::start(count)?;
        Ok(Self { servers, floor, floor_field })
    }

    /// Each in turn: ours, coturn, and the floor unless it is about indications.
    fn round(&mut self, case: &Case) -> anyhow::Result<Vec<Measured>> {
        let mut all = Vec::new();
        for (process, field) in &mut self.servers {
            all.push(measure(process.kind.name(), case, field, || process.cpu())?);
        }
        if case.form == Form::Channel {
            all.push(measure("floor", case, &mut self.floor_field, || self.floor.cpu())?);
        }
        Ok(all)
    }
}

fn measure(name: &str, case: &Case, field: &mut Field, cpu: impl Fn() -> Duration) -> anyhow::Result<Measured> {
    let load = |lasts| Load { way: case.way, form: case.form, rate: case.rate, lasts };
    field.drive(&load(WARM_UP))?;
    let before = cpu();
    let mut carried: Carried = field.drive(&load(LASTS))?;
    let spent = cpu() - before;
    let cpu_s_per_million = spent.as_secs_f64() * 1e6 / carried.delivered as f64;
    let (delay_us, nearly_all) = (carried.delay_us(0.5), carried.delay_us(0.99));
    eprintln!(
        "{} {name}: {cpu_s_per_million:.3} CPU s per million, {:.0} packets/s, {:.2} % lost, {:.0} % busy, delay {delay_us:.0} µs, \
         99 % within {nearly_all:.0} µs",
        case.name,
        carried.per_second(),
        carried.loss() * 100.0,
        spent.as_secs_f64() * 100.0 / carried.took.as_secs_f64(),
    );
    Ok(Measured { cpu_s_per_million, delay_us })
}

#[derive(Debug, Clone, Copy)]
struct Figures {
    ours: f64,
    coturn: f64,
    floor: f64,
    ratio_to_coturn: f64,
    ratio_to_floor: f64,
    /// Ours and coturn's.
    delay_us: [f64; 2],
}

impl Figures {
    /// Ratios within each round, then their medians: what else runs on the machine meets all three alike.
    fn of(rounds: &[Vec<Measured>]) -> Self {
        let of = |place: usize| {
            rounds.iter().map(move |round| round.get(place).map_or(f64::NAN, |measured| measured.cpu_s_per_million))
        };
        Self {
            ours: median(of(0)),
            coturn: median(of(1)),
            floor: median(of(2)),
            ratio_to_coturn: median(of(0).zip(of(1)).map(|(ours, theirs)| ours / theirs)),
            ratio_to_floor: median(of(0).zip(of(2)).map(|(ours, least)| ours / least)),
            delay_us: [0, 1].map(|place| {
                let all = rounds.iter().filter_map(|round| round.get(place));
                all.map(|measured| measured.delay_us).fold(f64::INFINITY, f64::min)
            }),
        }
    }

    fn print(&self, case: &Case) {
        let name = &case.name;
        let unit = "CPU s per million";
        result(&format!("turn.cpu_s_per_million_{name}_ours"), self.ours, unit);
        result(&format!("turn.cpu_s_per_million_{name}_coturn"), self.coturn, unit);
        if case.form == Form::Channel {
            result(&format!("turn.cpu_s_per_million_{name}_floor"), self.floor, unit);
            result(&format!("turn.cpu_ratio_coturn_{name}"), self.ratio_to_coturn, "ratio");
            result(&format!("turn.ratio_to_floor_{name}"), self.ratio_to_floor, "ratio");
        }
    }
}
