//! IpTimeCondition and IpTimeConditionGroup.

use super::params::Params;
use super::value::{Args, Choice};
use crate::model::time::{ClockTime, DayRange, Zone};
use crate::model::{Name, TimeCondition};
use crate::resolve::{Context, Object, Table, Tables};
use std::sync::Arc;

/// IpTimeConditionGroup: one of its conditions has to hold.
pub(crate) struct Group(pub(crate) Vec<Arc<TimeCondition>>);

impl Object for Group {
    const KEYWORD: &'static str = "IpTimeConditionGroup";
    const REF: &'static str = "IpTimeConditionGroupRef";
    fn read<'a>(_: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let members = params.objects::<TimeCondition>(cx);
        if !params.has(&[TimeCondition::KEYWORD, TimeCondition::REF]) {
            params.missing("at least one IpTimeCondition", cx);
        }
        Some(Self(members.into_iter().map(|(_, c)| c).collect()))
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.time_groups
    }
}

impl Object for TimeCondition {
    const KEYWORD: &'static str = "IpTimeCondition";
    const REF: &'static str = "IpTimeConditionRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let range = params.value("ConditionTimeRange", cx, time_range);
        let months = params.value("MonthOfYearMask", cx, |args, cx| mask(args, &[12], cx));
        let days = params.value("DayOfMonthMask", cx, |args, cx| mask(args, &[31, 62], cx));
        let weekdays = params.value("DayOfWeekMask", cx, |args, cx| mask(args, &[7], cx));
        let times = params.values("TimeOfDayRange", cx, day_range);
        let zone = params.value("TimeZone", cx, |args, cx| {
            args.choice(&[("Local", Choice::Is(Zone::Local)), ("UTC", Choice::Is(Zone::Utc))], cx)
        });
        let low = |bits: u64, keep: u64| u32::try_from(bits & keep).unwrap_or(u32::MAX);
        let all_days = u64::from(Self::ALL_DAYS);
        let months = months.map_or(Self::ALL_MONTHS, |(bits, _)| u16::try_from(bits).unwrap_or(u16::MAX));
        let weekdays = weekdays.map_or(Self::ALL_WEEKDAYS, |(bits, _)| u8::try_from(bits).unwrap_or(u8::MAX));
        let (days, days_from_last) =
            days.map_or((Self::ALL_DAYS, 0), |(bits, _)| (low(bits, all_days), low(bits >> 31, all_days)));
        if months == 0 || weekdays == 0 || (days == 0 && days_from_last == 0) {
            cx.findings
                .warning(params.at, format!("IpTimeCondition `{name}` never holds"))
                .label("a mask of it selects nothing");
        }
        Some(Self {
            name,
            range,
            months,
            days,
            days_from_last,
            weekdays,
            times: times.into_iter().map(|(_, t)| t).collect(),
            zone: zone.unwrap_or(Zone::Local),
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.time_conditions
    }
}

/// The conditions of a rule or a manual tunnel, inline, by reference or by a group; none: always.
pub(super) fn conditions<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Vec<Arc<TimeCondition>> {
    let mut all = Vec::new();
    for member in params.each(&[TimeCondition::KEYWORD, TimeCondition::REF, Group::REF]) {
        cx.uses(crate::Feature::TimeConditions, member.keyword);
        if member.is(Group::REF) {
            all.extend(cx.object::<Group>(member).into_iter().flat_map(|g| g.0.clone()));
        } else {
            all.extend(cx.object::<TimeCondition>(member));
        }
    }
    all
}

/// Binary digits, the first one in bit 0, and how many.
fn mask<'a>(args: &mut Args<'a>, lengths: &[usize], cx: &mut Context<'a, '_>) -> Option<(u64, usize)> {
    let expected = match lengths {
        [one] => format!("{one} binary digits"),
        _ => format!(
            "{} binary digits",
            lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
        ),
    };
    let word = args.word(&expected, cx)?;
    let digits = word.text.as_bytes();
    if !lengths.contains(&digits.len()) || !digits.iter().all(|d| matches!(d, b'0' | b'1')) {
        return args.wrong(word, &expected, cx);
    }
    let bits = digits.iter().rev().fold(0, |bits, digit| bits << 1 | u64::from(*digit == b'1'));
    Some((bits, digits.len()))
}

/// `yyyymmddhhmmss:yyyymmddhhmmss`.
fn time_range<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<(ClockTime, ClockTime)> {
    let expected = "yyyymmddhhmmss:yyyymmddhhmmss, the earlier one first";
    let word = args.word(expected, cx)?;
    let pair = word.text.split_once(':').and_then(|(a, b)| clock_time(a).zip(clock_time(b)));
    pair.filter(|(a, b)| a < b).or_else(|| args.wrong(word, expected, cx))
}

fn clock_time(text: &str) -> Option<ClockTime> {
    let digits = text.as_bytes();
    if digits.len() != 14 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse().ok();
    ClockTime::new(part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?)
}

/// `hh:mm-hh:mm`, over midnight if the second is not above the first; 24:00 is the end of the day.
fn day_range<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<DayRange> {
    let expected = "hh:mm-hh:mm";
    let word = args.word(expected, cx)?;
    let minute = |text: &str| -> Option<u16> {
        let (hour, minute) = text.split_once(':')?;
        if hour.len() > 2 || minute.len() != 2 {
            return None;
        }
        let (hour, minute) = (super::value::number(hour)?, super::value::number(minute)?);
        let all = hour * 60 + minute;
        (minute < 60 && all <= 1440).then(|| u16::try_from(all).ok()).flatten()
    };
    let pair = word.text.split_once('-').and_then(|(a, b)| minute(a).zip(minute(b)));
    match pair {
        Some((from, to)) if from < 1440 => Some(DayRange { from, to }),
        _ => args.wrong(word, expected, cx),
    }
}
