//! IpTimeCondition: when a rule or a manual tunnel is in force.

use super::Name;

const DAY: i64 = 86_400;
/// Days that are looked ahead for the next change.
const HORIZON_DAYS: i64 = 400;

/// An instant and where it is looked at from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub unix: i64,
    /// Seconds that local time is ahead of UTC at this instant.
    pub local_offset: i32,
}

/// Seconds since 1970-01-01 00:00:00 on the clock of a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockTime(i64);

impl ClockTime {
    /// `None` if there is no such date or time; the second 60 does not exist.
    #[must_use]
    pub fn new(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<Self> {
        let valid = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_of(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        let seconds = i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
        valid.then(|| Self(days_before(year, month, day) * DAY + seconds))
    }
}

/// Whose clock a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// That of the host.
    Local,
    /// UTC.
    Utc,
}

/// One TimeOfDayRange, in minutes since midnight, the end not included; over midnight if the end is not above the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRange {
    /// First minute.
    pub from: u16,
    /// Minute behind the last one, up to 1440.
    pub to: u16,
}

/// An IpTimeCondition: all that is coded has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeCondition {
    /// Name.
    pub name: Name,
    /// ConditionTimeRange, the end not included.
    pub range: Option<(ClockTime, ClockTime)>,
    /// MonthOfYearMask, January in bit 0.
    pub months: u16,
    /// DayOfMonthMask from the first day, which is bit 0.
    pub days: u32,
    /// DayOfMonthMask from the last day, which is bit 0; a day is selected by either mask.
    pub days_from_last: u32,
    /// DayOfWeekMask, Sunday in bit 0.
    pub weekdays: u8,
    /// TimeOfDayRanges, one of which has to hold; none: the whole day.
    pub times: Vec<DayRange>,
    /// TimeZone.
    pub zone: Zone,
}

impl TimeCondition {
    /// Every month.
    pub const ALL_MONTHS: u16 = 0x0fff;
    /// Every day of a month.
    pub const ALL_DAYS: u32 = 0x7fff_ffff;
    /// Every day of a week.
    pub const ALL_WEEKDAYS: u8 = 0x7f;

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, at: Moment) -> bool {
        self.holds_at(self.clock(at))
    }

    /// The next instant, in seconds since 1970 UTC, at which it may hold where it does not, or the other way round.
    /// `None`: never again. The offset of local time is taken to stay; who serves local time asks again when it changes.
    #[must_use]
    pub fn next_change(&self, after: Moment) -> Option<i64> {
        let now = self.clock(after);
        let holds = self.holds_at(now);
        let mut edges: Vec<i64> =
            self.times.iter().flat_map(|t| [t.from, t.to]).map(|m| i64::from(m) * 60).collect();
        edges.push(0);
        edges.sort_unstable();
        let today = now.div_euclid(DAY);
        let ends = self.range.map_or([None; 2], |(a, b)| [Some(a.0), Some(b.0)]);
        // Outside of its range nothing changes before the range begins.
        let first_day = self.range.map_or(today, |(a, _)| today.max(a.0.div_euclid(DAY)));
        let days = (first_day..first_day + HORIZON_DAYS).flat_map(|day| {
            let edges = edges.iter().map(move |edge| day * DAY + edge);
            edges.chain(ends.into_iter().flatten().filter(move |end| end.div_euclid(DAY) == day))
        });
        let back = after.unix - now;
        let mut last = None;
        for candidate in days.filter(|c| *c > now) {
            if self.holds_at(candidate) != holds {
                // The edges of a day are in order, but for the ends of the range.
                let earliest = ends.into_iter().flatten().filter(|e| now < *e && *e < candidate);
                let earliest = earliest.filter(|e| self.holds_at(*e) != holds).min();
                return Some(earliest.unwrap_or(candidate) + back);
            }
            last = Some(candidate);
        }
        match self.range {
            Some((_, end)) if now >= end.0 => None,
            // Nothing within the horizon: who wants to know asks again then.
            _ => last.map(|l| l + back),
        }
    }

    fn clock(&self, at: Moment) -> i64 {
        match self.zone {
            Zone::Local => at.unix + i64::from(at.local_offset),
            Zone::Utc => at.unix,
        }
    }

    fn holds_at(&self, clock: i64) -> bool {
        let (day, second) = (clock.div_euclid(DAY), clock.rem_euclid(DAY));
        let (year, month, day_of_month) = date_of(day);
        let from_last = days_of(year, month) - day_of_month;
        // 1970-01-01 was a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        self.range.is_none_or(|(a, b)| a.0 <= clock && clock < b.0)
            && self.months >> (month - 1) & 1 == 1
            && (self.days >> (day_of_month - 1) & 1 == 1 || self.days_from_last >> from_last & 1 == 1)
            && self.weekdays >> weekday & 1 == 1
            && (self.times.is_empty() || self.times.iter().any(|t| t.contains(second / 60)))
    }
}

impl DayRange {
    fn contains(self, minute: i64) -> bool {
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        if from < to { from <= minute && minute < to } else { from <= minute || minute < to }
    }
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date (years counted from March, so that the leap day is the last one).
fn days_before(year: u32, month: u32, day: u32) -> i64 {
    let years = i64::from(year) - i64::from(month <= 2);
    let months = i64::from((month + 9) % 12);
    let (era, year_of_era) = (years.div_euclid(400), years.rem_euclid(400));
    let day_of_year = (153 * months + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date of a day since 1970-01-01; the other way round.
fn date_of(day: i64) -> (u32, u32, u32) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let small = |n: i64| u32::try_from(n).unwrap_or(0);
    (small(year), small(month), small(day_of_month))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(year: u32, month: u32, day: u32, hour: u32, minute: u32) -> Moment {
        Moment { unix: ClockTime::new(year, month, day, hour, minute, 0).unwrap().0, local_offset: 0 }
    }

    fn always() -> TimeCondition {
        TimeCondition {
            name: Name::new("t").unwrap(),
            range: None,
            months: TimeCondition::ALL_MONTHS,
            days: TimeCondition::ALL_DAYS,
            days_from_last: 0,
            weekdays: TimeCondition::ALL_WEEKDAYS,
            times: Vec::new(),
            zone: Zone::Utc,
        }
    }

    #[test]
    fn office_hours() {
        let weekdays = 0b011_1110;
        let times = vec![DayRange { from: 8 * 60, to: 17 * 60 + 30 }];
        let c = TimeCondition { weekdays, times, ..always() };
        // 2026-11-20 is a Friday.
        assert!(!c.holds(at(2026, 11, 20, 7, 59)) && c.holds(at(2026, 11, 20, 8, 0)));
        assert!(c.holds(at(2026, 11, 20, 17, 29)) && !c.holds(at(2026, 11, 20, 17, 30)));
        assert!(!c.holds(at(2026, 11, 21, 12, 0)));
        assert_eq!(c.next_change(at(2026, 11, 20, 7, 0)), Some(at(2026, 11, 20, 8, 0).unix));
        assert_eq!(c.next_change(at(2026, 11, 20, 8, 0)), Some(at(2026, 11, 20, 17, 30).unix));
        assert_eq!(c.next_change(at(2026, 11, 20, 18, 0)), Some(at(2026, 11, 23, 8, 0).unix));
    }

    #[test]
    fn over_midnight_and_in_local_time() {
        let times = vec![DayRange { from: 22 * 60, to: 6 * 60 }];
        let c = TimeCondition { times, zone: Zone::Local, ..always() };
        let east = |m: Moment| Moment { local_offset: 3_600, ..m };
        assert!(c.holds(east(at(2026, 1, 1, 21, 0))) && !c.holds(at(2026, 1, 1, 21, 0)));
        assert!(c.holds(at(2026, 1, 1, 5, 59)) && !c.holds(east(at(2026, 1, 1, 5, 0))));
        assert_eq!(c.next_change(east(at(2026, 1, 1, 12, 0))), Some(at(2026, 1, 1, 21, 0).unix));
    }

    #[test]
    fn days_count_from_both_ends_of_the_month() {
        let c = TimeCondition { days: 1, days_from_last: 1, ..always() };
        assert!(c.holds(at(2024, 2, 29, 12, 0)) && !c.holds(at(2024, 2, 28, 12, 0)));
        assert!(c.holds(at(2023, 2, 28, 12, 0)) && c.holds(at(2023, 3, 1, 0, 0)));
        let february = TimeCondition { months: 0b10, ..c };
        assert!(!february.holds(at(2023, 3, 31, 0, 0)) && february.holds(at(2023, 2, 1, 0, 0)));
        assert_eq!(february.next_change(at(2023, 3, 5, 1, 0)), Some(at(2024, 2, 1, 0, 0).unix));
    }

    #[test]
    fn a_range_begins_and_ends_once() {
        let time = |day, second| ClockTime::new(2030, 1, day, 6, 30, second).unwrap();
        let c = TimeCondition { range: Some((time(1, 7), time(3, 9))), ..always() };
        let start = time(1, 7).0;
        assert_eq!(c.next_change(at(2026, 1, 1, 0, 0)), Some(start));
        assert_eq!(c.next_change(Moment { unix: start, local_offset: 0 }), Some(time(3, 9).0));
        assert_eq!(c.next_change(at(2031, 1, 1, 0, 0)), None);
    }

    #[test]
    fn dates_that_do_not_exist() {
        assert!(ClockTime::new(2023, 2, 29, 0, 0, 0).is_none());
        assert!(ClockTime::new(2024, 2, 29, 23, 59, 59).is_some());
        assert!(
            ClockTime::new(2024, 13, 1, 0, 0, 0).is_none() && ClockTime::new(2024, 1, 1, 24, 0, 0).is_none()
        );
    }

    proptest! {
        #[test]
        fn a_date_and_its_day_are_inverse(day in 0_i64..2_932_896) {
            let (y, m, d) = date_of(day);
            prop_assert_eq!(days_before(y, m, d), day);
        }

        #[test]
        fn nothing_changes_before_the_next_change(
            unix in 1_700_000_000_i64..1_900_000_000, months: u16, days: u32, last: u32, weekdays: u8,
            times in proptest::collection::vec((0_u16..1440, 1_u16..=1440), 0..3), probe: u32,
        ) {
            let times = times.into_iter().map(|(from, to)| DayRange { from, to }).collect();
            let c = TimeCondition { months, days, days_from_last: last & 0x7fff_ffff, weekdays, times, ..always() };
            let now = Moment { unix, local_offset: 0 };
            let next = c.next_change(now).unwrap();
            prop_assert!(next > unix);
            let between = unix + i64::from(probe) % (next - unix);
            prop_assert_eq!(c.holds(Moment { unix: between, local_offset: 0 }), c.holds(now));
        }
    }
}
