//! C-04, the clock alone and over restarts: never early, whatever the system's clock does.

use std::sync::Arc;

use offsite_model::{Clock, Luck as _, Span, Timestamp};
use offsite_store::catalog::{Catalog, MemoryCatalog};
use offsite_testkit::{SeededLuck, SimClock};

use crate::retention::clock::{CREDIT_MAX, Jump, PAUSE};
use crate::retention::time::{Remembered, RetentionTime};

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const YEAR: Span = Span::from_days(365);

/// A machine with a retention clock.
struct Machine {
    clock: SimClock,
    catalog: Arc<dyn Catalog>,
    time: Arc<RetentionTime>,
}

impl Machine {
    fn new() -> Self {
        let clock = SimClock::starting_at(START);
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new());
        let (time, jump) = open(&clock, &catalog, Remembered::default());
        assert_eq!((time.now(), jump), (START, None));
        Self { clock, catalog, time }
    }

    /// What passed by the retention clock since the beginning.
    fn passed(&self) -> Span {
        self.time.now().since(START)
    }

    fn restart(&mut self) -> Option<Jump> {
        let (time, jump) = open(&self.clock, &self.catalog, Remembered::default());
        self.time = time;
        jump
    }

    /// Lets time pass, with the clock kept each minute at first and then as it comes.
    fn run(&self, span: Span) -> Vec<Jump> {
        let minute = Span::from_secs(60);
        let mut jumps = Vec::new();
        for _ in 0..3 {
            self.clock.advance(minute);
            jumps.extend(self.time.keep().unwrap());
        }
        let rest = span.as_micros().saturating_sub(minute.times(3).as_micros());
        self.clock.advance(Span::from_micros(rest));
        jumps.extend(self.time.keep().unwrap());
        jumps
    }

    fn is_paused(&self) -> bool {
        self.time.look(|clock| clock.is_paused())
    }

    fn owed(&self) -> Span {
        self.time.look(|clock| clock.owed())
    }
}

fn open(
    clock: &SimClock,
    catalog: &Arc<dyn Catalog>,
    remembered: Remembered,
) -> (Arc<RetentionTime>, Option<Jump>) {
    RetentionTime::open(Arc::new(clock.clone()), Arc::clone(catalog), remembered).unwrap()
}

const fn days(n: u64) -> Span {
    Span::from_days(n)
}

#[test]
fn c_04_a_clock_set_forward_ten_years_moves_nothing() {
    let mut machine = Machine::new();
    assert_eq!(machine.run(days(1)), []);
    machine.clock.jump_forward(YEAR.times(10));
    let jumps = machine.run(days(1));
    assert!(matches!(jumps.as_slice(), [Jump::Forward(span)] if *span == YEAR.times(10)));
    assert_eq!(machine.passed(), days(2));
    // Over a restart it is worth what a year may credit, and no more.
    machine.clock.jump_forward(YEAR.times(10));
    assert!(matches!(machine.restart(), Some(Jump::Forward(_))));
    assert_eq!(machine.passed(), days(2 + 7));
    assert_eq!(CREDIT_MAX, days(7));
    assert!(!machine.is_paused());
}

#[test]
fn c_04_a_hundred_restarts_of_seven_days_are_worth_seven_days_a_year() {
    let mut machine = Machine::new();
    for _ in 0..100 {
        machine.clock.jump_forward(days(7));
        machine.clock.reboot();
        machine.restart();
    }
    assert_eq!(machine.passed(), days(7));
    assert_eq!(machine.owed(), days(693));
    // What the clock itself went through opens the next year's credit: a day before, nothing.
    machine.run(days(364));
    machine.clock.jump_forward(days(7));
    machine.restart();
    assert_eq!(machine.passed(), days(371));
    machine.run(days(2));
    machine.clock.jump_forward(days(7));
    machine.restart();
    assert_eq!(machine.passed(), days(380));
}

#[test]
fn c_04_a_clock_set_back_pauses_and_goes_on() {
    for is_restart in [false, true] {
        let mut machine = Machine::new();
        machine.run(days(1));
        machine.clock.jump_back(YEAR.times(10));
        let jump = match is_restart {
            true => machine.restart(),
            false => machine.run(Span::from_secs(240)).first().copied(),
        };
        assert!(matches!(jump, Some(Jump::Back(_))), "{jump:?}");
        assert!(machine.is_paused());
        let before = machine.passed();
        assert!(before >= days(1), "it never runs backwards");
        machine.run(Span::from_micros(PAUSE.as_micros() - Span::from_secs(300).as_micros()));
        assert!(machine.is_paused());
        machine.run(Span::from_secs(600));
        assert!(!machine.is_paused(), "it has gone on all the while");
        // Set right again: ten years forward.
        machine.clock.jump_forward(YEAR.times(10));
        machine.restart();
        let most = before.as_secs() + PAUSE.as_secs() + days(7).as_secs() + 3_600;
        assert!(machine.passed().as_secs() <= most);
    }
}

#[test]
fn time_spent_down_is_credited_and_what_is_owed_can_be() {
    let mut machine = Machine::new();
    machine.run(days(10));
    machine.clock.advance(days(3));
    machine.clock.reboot();
    assert_eq!(machine.restart(), None);
    assert_eq!((machine.passed(), machine.owed()), (days(13), Span::ZERO));
    machine.clock.advance(days(9));
    machine.clock.reboot();
    assert_eq!(machine.restart(), Some(Jump::Forward(days(5))));
    assert_eq!((machine.passed(), machine.owed()), (days(17), days(5)));
    machine.time.credited(days(5)).unwrap();
    machine.time.credited(days(100)).unwrap();
    assert_eq!((machine.passed(), machine.owed()), (days(22), Span::ZERO));
    assert_eq!(machine.time.now(), machine.clock.now(), "it is right again");
}

#[test]
fn c_04_a_clock_that_was_lost_begins_where_the_store_was() {
    let clock = SimClock::starting_at(START + YEAR.times(10));
    let opened = |is_waiting| {
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new());
        open(&clock, &catalog, Remembered { newest: Some(START), is_waiting }).0.now()
    };
    assert_eq!(opened(true), START + CREDIT_MAX, "something waits for its time");
    assert_eq!(opened(false), clock.now(), "nothing does");
}

/// What a hostile machine's clock does while so much time really passes.
fn step(machine: &mut Machine, luck: &SeededLuck) -> Span {
    let span = Span::from_secs(luck.below(3) * luck.below(40 * 86_400));
    let jump = Span::from_secs(luck.below(400 * 86_400));
    let mut run = span;
    match luck.below(8) {
        0 => machine.clock.jump_forward(jump),
        1 => machine.clock.jump_back(jump),
        2 => machine.clock.jump_forward(YEAR.times(10)),
        3 => {
            machine.clock.set_wall_runs(luck.chance(1, 2));
        }
        4 | 5 => {
            // Down for a while, perhaps switched off.
            machine.clock.advance(span);
            run = Span::ZERO;
            if luck.chance(1, 2) {
                machine.clock.reboot();
            }
            machine.restart();
        }
        _ => {}
    }
    if run > Span::ZERO {
        let run = run.max(Span::from_secs(180));
        machine.run(run);
        return run;
    }
    run
}

#[test]
fn c_04_in_random_histories_it_is_never_ahead_of_what_ran_and_was_credited() {
    let luck = SeededLuck::from_env_or(4);
    for case in 0..300 {
        let mut machine = Machine::new();
        let (mut ran, mut before) = (Span::ZERO, Span::ZERO);
        for _ in 0..luck.below(60) {
            let run = step(&mut machine, &luck);
            ran = Span::from_micros(ran.as_micros() + run.as_micros());
            let passed = machine.passed();
            assert!(passed >= before, "case {case}: it ran backwards");
            before = passed;
            let credited = passed.as_micros().saturating_sub(ran.as_micros());
            let years = passed.as_micros() / YEAR.as_micros() + 1;
            let most = CREDIT_MAX.as_micros() * years;
            assert!(credited <= most, "case {case}: {credited} were credited in {years} years");
            assert!(passed >= ran, "case {case}: it lost time while it ran");
        }
    }
}
