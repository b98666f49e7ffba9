//! The core, the stacks, the network and the faults of the simulation, and its invariants.

use super::facility::{Claim, key};
use super::*;

impl World {
    /// `layout`: stacks of each system. Each DVIPA has the stacks as candidates, each beginning with another one.
    pub(super) fn new(seed: u64, layout: &[&[&str]], leased: bool, giveback: Giveback) -> Self {
        let names: Vec<Name> = layout.iter().flat_map(|l| l.iter().map(|n| name(n))).collect();
        let plan = |first: usize| {
            let mut candidates = names.clone();
            candidates.rotate_left(first);
            Plan { address: format!("192.0.2.{}", first + 1).parse().unwrap(), candidates, giveback }
        };
        let plans: Vec<Plan> = (0..2).map(plan).collect();
        let mut store = Facility::default();
        for p in &plans {
            store.records.insert(p.address, (0..RECORDS).map(|id| (id, 0)).collect());
        }
        let mut world = Self {
            now: ms(1000),
            number: 0,
            events: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            leased,
            systems: Vec::new(),
            stacks: Vec::new(),
            plans,
            store,
            cut: BTreeSet::new(),
            last_relayed: BTreeMap::new(),
            spoke: BTreeMap::new(),
            live: BTreeMap::new(),
            reported: BTreeMap::new(),
            faults: false,
            bugs: Bugs::default(),
            crash_at: None,
            said: vec![0; layout.len()],
            done: Vec::new(),
            trace: Vec::new(),
            claimed_numbers: BTreeMap::new(),
            seed,
        };
        for (index, stacks) in layout.iter().enumerate() {
            let drift = world.rng.random_range(-20..=20);
            let system = System {
                name: name(&format!("SYS{index}")),
                up: false,
                incarnation: 0,
                paused_until: Time::ZERO,
                drift,
                machine: Machine::new(Settings { system: name("X"), lease: None }, [], []),
                keeper: Keeper::default(),
                held: Vec::new(),
                wake: None,
                stopping: false,
                last_answer: Time::ZERO,
                last_seen: Time::ZERO,
            };
            world.systems.push(system);
            for n in *stacks {
                world.stacks.push(Stack {
                    name: name(n),
                    system: index,
                    up: false,
                    start: 0,
                    link: 0,
                    paused_until: Time::ZERO,
                    filters: false,
                    roles: BTreeMap::new(),
                    lease: Time::ZERO,
                    unanswered: VecDeque::new(),
                    beats: false,
                    held: Vec::new(),
                    last_down: Time::ZERO,
                    last_up: Time::ZERO,
                });
            }
        }
        for system in 0..world.systems.len() {
            let delay = world.delay(0, 30);
            world.at(world.now + delay, Event::StartSystem { system });
        }
        world
    }

    pub(super) fn at(&mut self, at: Time, event: Event) {
        self.number += 1;
        self.events.insert((at.max(self.now), self.number), event);
    }

    pub(super) fn delay(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(low * 1000..=high * 1000))
    }

    /// A system's own clock.
    pub(super) fn local_time(&self, system: usize) -> Time {
        self.clock(system, self.now)
    }

    fn clock(&self, system: usize, at: Time) -> Time {
        let d = self.systems[system].drift;
        match u32::try_from(d) {
            Ok(fast) => at + at * fast / 1000,
            Err(_) => at - at * d.unsigned_abs() / 1000,
        }
    }

    /// When a system's clock shows `at`.
    fn global(&self, system: usize, at: Time) -> Time {
        let d = self.systems[system].drift;
        at.mul_f64(1000.0 / f64::from(1000 + d)) + Duration::from_micros(1)
    }

    fn log(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.len() < 20_000 {
            let line = format!("{:>9.3}ms {}", self.now.as_secs_f64() * 1000.0, text(self));
            self.trace.push(line);
        }
    }

    /// Runs until `end`.
    pub(super) fn run(&mut self, end: Time) {
        while let Some(((at, _), _)) = self.events.first_key_value() {
            if *at > end {
                break;
            }
            let ((at, _), event) = self.events.pop_first().unwrap();
            self.now = at;
            self.happen(event);
            self.check();
        }
        self.now = end;
    }

    /// The system that has to do with an event, and the incarnation for which it was meant.
    fn of_system(&self, e: &Event) -> Option<(usize, u64)> {
        match e {
            Event::Wake { system, incarnation }
            | Event::Input { system, incarnation, .. }
            | Event::Answer { system, incarnation, .. }
            | Event::Keep { system, incarnation } => Some((*system, *incarnation)),
            Event::Configured { stack, incarnation, .. } | Event::Connected { stack, incarnation, .. } => {
                Some((self.stacks[*stack].system, *incarnation))
            }
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some((system, incarnation)) = self.of_system(&event) {
            let s = &mut self.systems[system];
            if !s.up || s.incarnation != incarnation {
                return;
            }
            if s.paused_until > self.now {
                s.held.push(event);
                return;
            }
        }
        let stack = match &event {
            Event::ToStack { stack, start, .. } => Some((*stack, *start)),
            Event::Relayed { to, start, .. } => Some((*to, *start)),
            Event::Heartbeat { stack, start } => Some((*stack, *start)),
            _ => None,
        };
        if let Some((stack, start)) = stack {
            let s = &self.stacks[stack];
            if !s.up || s.start != start {
                return;
            }
            if s.paused_until > self.now {
                return self.stacks[stack].held.push(event);
            }
        }
        match event {
            Event::Resume { stack } => {
                if self.stacks[stack].paused_until <= self.now {
                    for event in std::mem::take(&mut self.stacks[stack].held) {
                        self.happen(event);
                    }
                }
            }
            Event::Wake { system, .. } => {
                let now = self.local_time(system);
                self.systems[system].wake = None;
                if self.systems[system].machine.deadline().is_some_and(|t| t <= now) {
                    self.systems[system].machine.on_time(now);
                }
                self.drain(system);
            }
            Event::Input { system, input, .. } => self.input(system, *input),
            Event::ToStack { stack, incarnation, what, .. } => self.tell_stack(stack, incarnation, what),
            Event::Configured { stack, start, .. } => {
                if self.stacks[stack].up && self.stacks[stack].start == start {
                    let inputs = self.stacks[stack].unanswered.pop_front().unwrap_or_default();
                    let system = self.stacks[stack].system;
                    for input in inputs {
                        let ready = matches!(input, Input::Stack { .. });
                        self.input(system, input);
                        if ready {
                            self.make_again(stack);
                        }
                    }
                }
            }
            Event::Heartbeat { stack, start } => self.heartbeat(stack, start),
            Event::Relayed { from, to, message, .. } => {
                if !self.cut.contains(&pair(from, to)) {
                    let (from, here) = (self.stacks[from].name.clone(), self.stacks[to].name.clone());
                    self.upcall(to, Input::Message { from, to: here, message });
                }
            }
            Event::Operation { system, incarnation, op } => self.operation(system, incarnation, op),
            Event::Answer { system, reply, .. } => self.answered(system, reply),
            Event::Keep { system, .. } => self.keeper_timer(system),
            Event::Negotiated { dvipa, id, stack, start, epoch } => {
                self.negotiated(dvipa, id, stack, start, epoch)
            }
            Event::StartStack { stack } => self.start_stack(stack),
            Event::Connected { stack, start, .. } => {
                if self.stacks[stack].up && self.stacks[stack].start == start {
                    self.connected(stack, start);
                }
            }
            Event::StartSystem { system } => self.start_system(system),
            Event::Fault => self.fault(),
            Event::Heal(what) => self.heal(what),
        }
    }

    // Processes.

    fn start_system(&mut self, system: usize) {
        if self.systems[system].up {
            return;
        }
        let divisor = if self.bugs.impatient && system > 0 { 4 } else { 1 };
        let lease = self.leased.then_some(LEASE / divisor);
        let settings = Settings { system: self.systems[system].name.clone(), lease };
        let own = self.stacks.iter().filter(|s| s.system == system).map(|s| s.name.clone());
        let s = &mut self.systems[system];
        s.machine = Machine::new(settings, own, self.plans.clone());
        s.keeper = Keeper::default();
        (s.up, s.stopping, s.paused_until) = (true, false, Time::ZERO);
        s.incarnation += 1;
        s.wake = None;
        s.held.clear();
        let incarnation = s.incarnation;
        self.log(|w| format!("start of {}", w.systems[system].name));
        self.at(self.now, Event::Keep { system, incarnation });
        for stack in 0..self.stacks.len() {
            if self.stacks[stack].system == system {
                match self.stacks[stack].up {
                    true => self.connect(stack),
                    false => self.at(self.now, Event::StartStack { stack }),
                }
            }
        }
    }

    fn start_stack(&mut self, stack: usize) {
        let system = self.stacks[stack].system;
        if self.stacks[stack].up || !self.systems[system].up || self.systems[system].stopping {
            return;
        }
        let s = &mut self.stacks[stack];
        s.up = true;
        s.start += 1;
        (s.paused_until, s.lease, s.filters, s.beats) = (Time::ZERO, Time::ZERO, false, false);
        s.roles.clear();
        s.held.clear();
        self.connect(stack);
    }

    fn connect(&mut self, stack: usize) {
        let s = &mut self.stacks[stack];
        let (system, start) = (s.system, s.start);
        let incarnation = self.systems[system].incarnation;
        self.at(self.now, Event::Connected { stack, start, incarnation });
    }

    fn connected(&mut self, stack: usize, start: u64) {
        let s = &mut self.stacks[stack];
        s.unanswered.clear();
        s.link = start;
        let (system, name) = (s.system, s.name.clone());
        for (dvipa, epoch) in self.owned(stack) {
            self.input(system, Input::OwnerHeard { dvipa, owner: name.clone(), epoch });
        }
        self.input(system, Input::Stack { stack: name, state: StackState::Starting });
        let ready = Input::Stack { stack: self.stacks[stack].name.clone(), state: StackState::Ready };
        self.configure(system, vec![(stack, ready)], Some(stack));
    }

    pub(super) fn end_stack(&mut self, stack: usize) {
        if !self.stacks[stack].up {
            return;
        }
        self.log(|w| format!("end of stack {}", w.stacks[stack].name));
        let s = &mut self.stacks[stack];
        (s.up, s.filters) = (false, false);
        s.roles.clear();
        let (system, start) = (s.system, s.start);
        self.live.retain(|_, (at, of, _)| *at != stack || *of != start);
        let input =
            Box::new(Input::Stack { stack: self.stacks[stack].name.clone(), state: StackState::Ended });
        let incarnation = self.systems[system].incarnation;
        let (seen, back) = (self.delay(0, 3), self.delay(80, 600));
        self.at(self.now + seen, Event::Input { system, incarnation, input });
        self.at(self.now + seen + back, Event::StartStack { stack });
    }

    pub(super) fn end_system(&mut self, system: usize) {
        self.log(|w| format!("end of {}", w.systems[system].name));
        self.systems[system].up = false;
        let back = self.delay(50, 1500);
        self.at(self.now + back, Event::StartSystem { system });
    }

    fn pause(&mut self, system: Option<usize>, stack: Option<usize>) {
        let until = self.now + self.delay(30, 1200);
        self.log(|_| format!("pause of {system:?} {stack:?} until {until:?}"));
        if let Some(stack) = stack {
            self.stacks[stack].paused_until = until;
            self.at(until, Event::Resume { stack });
        }
        if let Some(system) = system {
            self.systems[system].paused_until = until;
            let incarnation = self.systems[system].incarnation;
            self.at(until, Event::Wake { system, incarnation });
        }
    }

    // The core.

    pub(super) fn input(&mut self, system: usize, input: Input) {
        if !self.systems[system].up {
            return;
        }
        let noise = matches!(input, Input::Alive { .. } | Input::Renewed { .. } | Input::OwnerHeard { .. });
        if !noise {
            self.log(|w| format!("{} <- {input:?}", w.systems[system].name));
        }
        let now = self.local_time(system);
        let incarnation = self.systems[system].incarnation;
        let s = &mut self.systems[system];
        if s.paused_until > self.now {
            let input = Box::new(input);
            return s.held.push(Event::Input { system, incarnation, input });
        }
        // What waited while the process was stopped comes first, in its order.
        let held = std::mem::take(&mut s.held);
        for event in held {
            self.happen(event);
        }
        self.systems[system].machine.handle(now, input);
        self.drain(system);
    }

    pub(super) fn drain(&mut self, system: usize) {
        let held = std::mem::take(&mut self.systems[system].held);
        for event in held {
            self.happen(event);
        }
        while let Some(output) = self.systems[system].machine.poll() {
            self.said[system] += 1;
            if self.crash_at == Some((system, self.said[system])) {
                for stack in 0..self.stacks.len() {
                    if self.stacks[stack].system == system {
                        self.end_stack(stack);
                    }
                }
                return self.end_system(system);
            }
            if !matches!(output, Output::Lease { .. }) {
                self.log(|w| format!("{} -> {output:?}", w.systems[system].name));
            }
            self.act(system, output);
        }
        if let Some(at) = self.systems[system].machine.deadline()
            && self.systems[system].wake.is_none_or(|w| at < w)
        {
            self.systems[system].wake = Some(at);
            let (at, incarnation) = (self.global(system, at), self.systems[system].incarnation);
            self.at(at, Event::Wake { system, incarnation });
        }
        let s = &self.systems[system];
        if s.stopping && s.up && s.machine.is_stopped() {
            for stack in 0..self.stacks.len() {
                if self.stacks[stack].system == system {
                    let name = self.stacks[stack].name.clone();
                    self.systems[system].keeper.serves.remove(&name);
                    let start = self.stacks[stack].start;
                    self.send_operation(system, facility::Operation::End { stack: name, start });
                    self.end_stack(stack);
                }
            }
            self.end_system(system);
        }
    }

    fn index(&self, stack: &Name) -> usize {
        self.stacks.iter().position(|s| s.name == *stack).unwrap()
    }

    fn act(&mut self, system: usize, output: Output) {
        match output {
            Output::Serve { stack } => {
                let start = self.stacks[self.index(&stack)].link;
                let k = &mut self.systems[system].keeper;
                k.ends.remove(&stack);
                k.starts.insert(stack.clone(), start);
                k.serves.insert(stack);
                self.keep(system);
            }
            Output::Retire { stack } => {
                self.systems[system].keeper.serves.remove(&stack);
            }
            Output::End { stack } => {
                let k = &mut self.systems[system].keeper;
                if k.serves.remove(&stack) {
                    k.ends.insert(stack);
                }
                self.keep(system);
            }
            Output::Claim { dvipa, stack, expected, over, above } => {
                self.number += 1;
                let number = self.number;
                let claim = Claim { dvipa, stack, expected, over, above, number };
                self.systems[system].keeper.claims.insert(dvipa, (claim, false));
                self.keep(system);
            }
            // The keeper's own business when it can know that it was not made: here, never.
            Output::Withdraw { dvipa } => {
                if let Some((_, withdrawn)) = self.systems[system].keeper.claims.get_mut(&dvipa) {
                    *withdrawn = true;
                }
            }
            Output::Clear { dvipa } => {
                self.systems[system].keeper.clears.insert(dvipa);
                self.keep(system);
            }
            Output::Lease { stack, until } => {
                let stack = self.index(&stack);
                self.control(stack, ToStack::Lease(until));
            }
            Output::Configure => self.configure(system, vec![], None),
            Output::TakeOver { dvipa, stack, epoch, .. } => {
                let first = self.index(&stack);
                let announced = Input::Announced { dvipa, stack };
                self.configure(system, vec![(first, announced)], None);
                let start = self.stacks[first].start;
                for id in 0..RECORDS {
                    let delay = self.delay(1, 40);
                    let event = Event::Negotiated { dvipa, id, stack: first, start, epoch };
                    self.at(self.now + delay, event);
                }
                let delay = self.delay(3, 60);
                let incarnation = self.systems[system].incarnation;
                let input = Box::new(Input::Rebuilt { dvipa, epoch, connections: 7, missing: 0 });
                self.at(self.now + delay, Event::Input { system, incarnation, input });
            }
            Output::GiveUp { dvipa, stack, .. } => {
                let index = self.index(&stack);
                let k = &mut self.systems[system].keeper;
                if k.fences.get(&dvipa).is_some_and(|(s, _)| *s == stack) {
                    k.fences.remove(&dvipa);
                }
                k.writes.retain(|(d, _)| *d != dvipa);
                self.live.retain(|(d, _), (s, ..)| *d != dvipa || *s != index);
                self.configure(system, vec![(index, Input::GaveUp { dvipa, stack })], None);
            }
            Output::Kill { stack } => {
                let stack = self.index(&stack);
                self.end_stack(stack);
            }
            Output::Send { from, to, message, .. } => {
                let message = match message {
                    Message::Offer { dvipa, epoch, cause, .. }
                        if self.systems[system].keeper.works == Some(false) =>
                    {
                        let left = |id| Left { key: key(id), outcome: None };
                        Message::Offer { dvipa, epoch, cause, handed: Some((0..RECORDS).map(left).collect()) }
                    }
                    other => other,
                };
                self.relay(&from, &to, message);
            }
            Output::Done(entry) => self.done.push(*entry),
            Output::Note { .. } => {}
        }
    }

    fn configure(&mut self, system: usize, mut waiting: Vec<(usize, Input)>, only: Option<usize>) {
        let mut order: Vec<usize> = (0..self.stacks.len())
            .filter(|i| self.stacks[*i].system == system && only.is_none_or(|o| o == *i))
            .collect();
        order.sort_by_key(|i| !waiting.iter().any(|(w, _)| w == i));
        for stack in order {
            let name = self.stacks[stack].name.clone();
            let roles: BTreeMap<_, _> = self
                .plans
                .iter()
                .map(|p| (p.address, self.systems[system].machine.role(p.address, &name)))
                .collect();
            let inputs = waiting.extract_if(.., |(w, _)| *w == stack).map(|(_, i)| i).collect();
            self.stacks[stack].unanswered.push_back(inputs);
            self.control(stack, ToStack::Configure(roles));
        }
    }

    fn control(&mut self, stack: usize, what: ToStack) {
        let delay = self.delay(0, 2);
        let s = &mut self.stacks[stack];
        s.last_down = (self.now + delay).max(s.last_down);
        let (at, start) = (s.last_down, s.link);
        let incarnation = self.systems[self.stacks[stack].system].incarnation;
        self.at(at, Event::ToStack { stack, start, incarnation, what });
    }

    fn upcall(&mut self, stack: usize, input: Input) {
        let system = self.stacks[stack].system;
        let incarnation = self.systems[system].incarnation;
        let delay = self.delay(0, 1);
        let s = &mut self.stacks[stack];
        s.last_up = (self.now + delay).max(s.last_up);
        let (at, input) = (s.last_up, Box::new(input));
        self.at(at, Event::Input { system, incarnation, input });
    }

    // The stacks.

    fn tell_stack(&mut self, stack: usize, incarnation: u64, what: ToStack) {
        let system = self.stacks[stack].system;
        if incarnation != self.systems[system].incarnation {
            return;
        }
        match what {
            ToStack::Lease(until) => {
                let s = &mut self.stacks[stack];
                s.lease = s.lease.max(until);
            }
            ToStack::Configure(roles) => {
                self.stacks[stack].roles = roles;
                // They came before the configuration.
                let first = !std::mem::replace(&mut self.stacks[stack].filters, true);
                let start = self.stacks[stack].start;
                if self.stacks[stack].beats {
                    let owned = self.owned(stack);
                    self.beat(stack, &owned);
                } else {
                    self.heartbeat(stack, start);
                }
                let delay = if first { self.delay(5, 60) } else { self.delay(0, 3) };
                let s = &mut self.stacks[stack];
                s.last_up = (self.now + delay).max(s.last_up);
                let at = s.last_up;
                self.at(at, Event::Configured { stack, start, incarnation });
            }
        }
    }

    /// OWNER messages, lost and doubled now and then.
    fn heartbeat(&mut self, stack: usize, start: u64) {
        let owned = self.owned(stack);
        self.beat(stack, &owned);
        self.stacks[stack].beats = !owned.is_empty();
        if !owned.is_empty() {
            self.at(self.now + ms(25), Event::Heartbeat { stack, start });
        }
    }

    fn owned(&self, stack: usize) -> Vec<(IpAddr, u64)> {
        let epoch = |r: &Role| match r {
            Role::Owner { epoch } => Some(*epoch),
            Role::Moving { .. } | Role::Other { .. } => None,
        };
        self.stacks[stack].roles.iter().filter_map(|(d, r)| Some((*d, epoch(r)?))).collect()
    }

    fn beat(&mut self, stack: usize, owned: &[(IpAddr, u64)]) {
        for &(dvipa, epoch) in owned {
            for other in 0..self.stacks.len() {
                let copies = if self.faults { self.rng.random_range(0..=2) } else { 1 };
                for _ in 0..copies {
                    if other != stack && !self.cut.contains(&pair(stack, other)) && self.stacks[other].up {
                        let owner = self.stacks[stack].name.clone();
                        self.upcall(other, Input::OwnerHeard { dvipa, owner, epoch });
                    }
                }
            }
        }
    }

    fn relay(&mut self, from: &Name, to: &Name, message: Message) {
        let (from, to) = (self.index(from), self.index(to));
        if !self.stacks[from].up || !self.stacks[to].up {
            return;
        }
        let delay = if self.faults && self.rng.random_range(0..10) == 0 {
            self.delay(10, 400)
        } else {
            self.delay(0, 3)
        };
        let last = self.last_relayed.entry((from, to)).or_default();
        *last = (self.now + delay).max(*last);
        let (at, start) = (*last, self.stacks[to].start);
        self.at(at, Event::Relayed { from, to, start, message });
    }

    fn negotiated(&mut self, dvipa: IpAddr, id: u8, stack: usize, start: u64, epoch: u64) {
        let s = &self.stacks[stack];
        let (system, serving) = (s.system, self.speaks(stack, dvipa) == Some(epoch));
        if !s.up || s.start != start || !self.systems[system].up {
            return;
        }
        if s.paused_until > self.now || self.systems[system].paused_until > self.now || !serving {
            // IKE repeats itself while there is an owner.
            if self.systems[system].machine.serving(dvipa) == Some((&s.name.clone(), epoch)) {
                self.at(self.now + ms(20), Event::Negotiated { dvipa, id, stack, start, epoch });
            }
            return;
        }
        let outcome = match self.rng.random_range(0..10) {
            0 => Outcome::Failed("no answer".into()),
            1 => Outcome::Waiting("behind a NAT".into()),
            _ => Outcome::Remade,
        };
        if outcome == Outcome::Remade {
            self.live.insert((dvipa, id), (stack, start, epoch));
            self.systems[system].keeper.writes.insert((dvipa, id));
        } else {
            self.reported.insert((dvipa, id), epoch);
        }
        self.input(system, Input::Record { dvipa, key: key(id), outcome });
        self.keep(system);
    }

    /// The SAs that a restarted stack has lost are negotiated again, under the owner that it was.
    fn make_again(&mut self, stack: usize) {
        let name = self.stacks[stack].name.clone();
        let (system, start) = (self.stacks[stack].system, self.stacks[stack].start);
        for dvipa in self.plans.iter().map(|p| p.address).collect::<Vec<_>>() {
            let Some((n, epoch)) = self.systems[system].machine.serving(dvipa) else { continue };
            if *n != name {
                continue;
            }
            for id in 0..RECORDS {
                let delay = self.delay(1, 40);
                self.at(self.now + delay, Event::Negotiated { dvipa, id, stack, start, epoch });
            }
        }
    }

    // Faults.

    pub(super) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let (stack, system) =
            (self.rng.random_range(0..self.stacks.len()), self.rng.random_range(0..self.systems.len()));
        let heal = self.now + self.delay(20, 1500);
        match self.rng.random_range(0..14) {
            0 | 1 => self.end_stack(stack),
            2 => self.end_system(system),
            3 => {
                for s in 0..self.stacks.len() {
                    if self.stacks[s].system == system {
                        self.end_stack(s);
                    }
                }
                self.end_system(system);
            }
            4 => self.pause(Some(system), None),
            5 => self.pause(None, Some(stack)),
            6 => self.pause(Some(self.stacks[stack].system), Some(stack)),
            7 => {
                self.log(|_| "the store is away".into());
                self.store.down = true;
                self.at(heal, Event::Heal(Heal::Store));
            }
            8 => {
                self.store.slow = true;
                self.at(heal, Event::Heal(Heal::Slow));
            }
            9 => {
                self.log(|_| format!("the store is away for {system}"));
                self.store.cut.insert(system);
                self.at(heal, Event::Heal(Heal::Cut { system }));
            }
            10 => {
                let other = self.rng.random_range(0..self.stacks.len());
                self.log(|_| format!("{stack} and {other} do not hear each other"));
                self.cut.insert(pair(stack, other));
                self.at(heal, Event::Heal(Heal::Link { a: stack, b: other }));
            }
            11 if !self.systems[system].stopping && self.systems[system].up => {
                let now = self.local_time(system);
                self.systems[system].stopping = true;
                self.systems[system].machine.stop(now);
                self.log(|w| format!("{} ends in good order", w.systems[system].name));
                self.drain(system);
            }
            _ => self.ask(system, stack),
        }
        let next = self.delay(1, 400);
        self.at(self.now + next, Event::Fault);
    }

    fn ask(&mut self, system: usize, stack: usize) {
        let dvipa = self.plans[self.rng.random_range(0..self.plans.len())].address;
        let stack = self.stacks[stack].name.clone();
        let request = match self.rng.random_range(0..4) {
            0 => Request::Deactivate { dvipa, stack },
            1 => Request::Reactivate { dvipa, stack },
            _ => Request::Move { dvipa, to: stack },
        };
        if self.systems[system].up && self.systems[system].paused_until <= self.now {
            let now = self.local_time(system);
            let done = self.systems[system].machine.request(now, &request);
            self.log(|_| format!("{request:?}: {done:?}"));
            self.drain(system);
        }
    }

    fn heal(&mut self, what: Heal) {
        self.log(|_| format!("{what:?} is well"));
        match what {
            Heal::Store => self.store.down = false,
            Heal::Slow => self.store.slow = false,
            Heal::Cut { system } => {
                self.store.cut.remove(&system);
            }
            Heal::Link { a, b } => {
                self.cut.remove(&pair(a, b));
            }
        }
    }

    /// Everything is well again, and an operator lets every stack own everything.
    pub(super) fn heal_all(&mut self) {
        self.faults = false;
        (self.store.down, self.store.slow) = (false, false);
        self.store.cut.clear();
        self.cut.clear();
        for system in 0..self.systems.len() {
            for dvipa in self.plans.iter().map(|p| p.address).collect::<Vec<_>>() {
                for stack in self.stacks.iter().map(|s| s.name.clone()).collect::<Vec<_>>() {
                    let now = self.local_time(system);
                    if self.systems[system].up {
                        let _ =
                            self.systems[system].machine.request(now, &Request::Reactivate { dvipa, stack });
                    }
                }
            }
            if self.systems[system].up {
                self.drain(system);
            }
        }
    }

    // Invariants.

    pub(super) fn speaks(&self, stack: usize, dvipa: IpAddr) -> Option<u64> {
        let s = &self.stacks[stack];
        let leased = !self.leased || self.bugs.no_gate || self.local_time(s.system) < s.lease;
        match s.roles.get(&dvipa) {
            Some(Role::Owner { epoch }) if s.up && s.paused_until <= self.now && leased => Some(*epoch),
            _ => None,
        }
    }

    /// At most one stack speaks, with filters, each epoch belongs to one stack, and no record is forgotten.
    fn check(&mut self) {
        for p in self.plans.clone() {
            let dvipa = p.address;
            let speakers: Vec<_> =
                (0..self.stacks.len()).filter_map(|s| self.speaks(s, dvipa).map(|e| (s, e))).collect();
            self.require(speakers.len() <= 1, || format!("{dvipa}: two speak: {speakers:?}"));
            for (stack, epoch) in speakers {
                // An epoch that was taken without the store may be forgotten with the processes that knew it.
                let name = &self.stacks[stack].name;
                if self.store.owners.get(&dvipa).is_some_and(|(s, _, e)| s == name && *e == epoch) {
                    let who = *self.spoke.entry((dvipa, epoch)).or_insert(stack);
                    self.require(who == stack, || format!("{dvipa}: epoch {epoch} belongs to two"));
                }
                let filters = self.stacks[stack].filters;
                self.require(filters, || format!("{dvipa}: {stack} speaks without filters"));
            }
            let all = self.store.records[&dvipa].len() == usize::from(RECORDS);
            self.require(all, || format!("{dvipa}: a record is forgotten"));
        }
    }

    pub(super) fn require(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let from = self.trace.len().saturating_sub(250);
            panic!("{}\nseed {}: {}", self.trace[from..].join("\n"), self.seed, what());
        }
    }

    /// After everything healed: one speaks, and each record's SA lives there or was reported there.
    pub(super) fn settled(&self) {
        for p in &self.plans {
            let dvipa = p.address;
            let speaker = (0..self.stacks.len()).find_map(|s| self.speaks(s, dvipa).map(|e| (s, e)));
            let state = || -> Vec<_> {
                self.stacks
                    .iter()
                    .map(|s| (s.up, s.lease, s.roles.get(&dvipa).cloned(), s.paused_until))
                    .collect()
            };
            let keepers = || self.systems.iter().map(|s| &s.keeper).collect::<Vec<_>>();
            self.require(speaker.is_some(), || {
                format!("{dvipa}: nobody speaks: {:?} {:?}", state(), keepers())
            });
            let Some((stack, epoch)) = speaker else { return };
            for id in 0..RECORDS {
                let lives = self.live.get(&(dvipa, id)).is_some_and(|(s, ..)| *s == stack);
                let reported = self.reported.get(&(dvipa, id)) == Some(&epoch);
                self.require(lives || reported, || format!("{dvipa}: SA {id} is neither live nor reported"));
            }
            let m = &self.systems[self.stacks[stack].system].machine;
            self.require(m.is_steady(dvipa), || format!("{dvipa}: {:?} is not complete", m.running(dvipa)));
        }
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
