//! The local time zone: turns milliseconds since 1970 into days and clock times, and these
//! into words. Reads the system's compiled zone file (`TZif`, RFC 9636) once at start; without
//! one, times are UTC.

use std::path::{Path, PathBuf};

use teahouse_node::protocols::ids::Millis;

use crate::strings;

const DAY: i64 = 86_400;
/// The largest real zone files are a tenth of this.
const MAX_FILE: u64 = 64 * 1024;

/// A time zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// (from this second on, so many seconds east of Greenwich), ascending.
    changes: Vec<(i64, i32)>,
    /// Before the first change.
    first: i32,
    /// After the last change; `None` for "as the last change says".
    rule: Option<Rule>,
}

/// The rule for times after the last listed change: `CET-1CEST,M3.5.0,M10.5.0/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    standard: i32,
    summer: Option<Summer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summer {
    offset: i32,
    from: Turn,
    to: Turn,
}

/// The `week`th (5: last) `weekday` of `month`, `seconds` after midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    month: i64,
    week: i64,
    weekday: i64,
    seconds: i64,
}

/// A local date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Days since 1970-01-01, local.
    pub day: i64,
    /// Seconds since local midnight.
    pub second: i64,
}

impl Moment {
    /// `14:05`
    pub fn clock(self) -> String {
        format!("{:02}:{:02}", self.second / 3600, self.second / 60 % 60)
    }
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self::default()
    }

    /// The zone that the environment variable `TZ`, else the system, names.
    pub fn system() -> Self {
        let path = match std::env::var("TZ") {
            Ok(name) if !name.is_empty() => {
                Path::new("/usr/share/zoneinfo").join(name.trim_start_matches(':'))
            }
            _ => PathBuf::from("/etc/localtime"),
        };
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= MAX_FILE);
        let bytes = if small { std::fs::read(&path).ok() } else { None };
        bytes.and_then(|b| Self::parse(&b)).unwrap_or_default()
    }

    /// Reads the 64-bit block of a `TZif` file and the rule behind it.
    fn parse(file: &[u8]) -> Option<Self> {
        let (_, len32) = counts(file, 4)?;
        let block = file.get(44 + len32..)?;
        let (counts, len64) = counts(block, 8)?;
        let (times, types) = (counts.times, counts.types);
        let body = block.get(44..44 + len64)?;
        let offset = |kind: usize| -> Option<i32> {
            let at = times * 9 + kind * 6;
            Some(i32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?))
        };
        let mut changes = Vec::with_capacity(times);
        for i in 0..times {
            let at = i64::from_be_bytes(body.get(i * 8..i * 8 + 8)?.try_into().ok()?);
            let kind = usize::from(*body.get(times * 8 + i)?);
            changes.push((at, offset(kind)?));
        }
        let first = if types > 0 { offset(0)? } else { 0 };
        let footer = block.get(44 + len64..).and_then(|f| core::str::from_utf8(f).ok());
        Some(Self { changes, first, rule: footer.and_then(|f| Rule::parse(f.trim())) })
    }

    /// Seconds east of Greenwich at this second.
    fn offset(&self, second: i64) -> i32 {
        let after = self.changes.partition_point(|(at, _)| *at <= second);
        match (&self.rule, self.changes.get(after.wrapping_sub(1))) {
            (Some(rule), _) if after == self.changes.len() => rule.offset(second),
            (_, Some((_, offset))) => *offset,
            (_, None) => self.first,
        }
    }

    /// The local date and time.
    pub fn moment(&self, at: Millis) -> Moment {
        let second = i64::try_from(at / 1000).unwrap_or(i64::MAX / 2);
        let local = second + i64::from(self.offset(second));
        Moment { day: local.div_euclid(DAY), second: local.rem_euclid(DAY) }
    }

    /// For lists: the clock today, then the day, then the date.
    pub fn short(&self, at: Millis, now: Millis) -> String {
        let (then, today) = (self.moment(at), self.moment(now).day);
        match today - then.day {
            0 => then.clock(),
            1 => strings::yesterday().into(),
            2..=6 => strings::weekday_short(weekday(then.day)).into(),
            _ => {
                let (year, month, day) = civil(then.day);
                if civil(today).0 == year {
                    strings::date_short(month, day)
                } else {
                    format!("{year}-{month:02}-{day:02}")
                }
            }
        }
    }

    /// For separators between days.
    pub fn day(&self, at: Millis, now: Millis) -> String {
        let (then, today) = (self.moment(at).day, self.moment(now).day);
        match today - then {
            0 => strings::today().into(),
            1 => strings::yesterday().into(),
            2..=6 => strings::weekday(weekday(then)).into(),
            _ => {
                let (year, month, day) = civil(then);
                strings::date_long(year, month, day)
            }
        }
    }

    /// Milliseconds until the next local midnight.
    pub fn until_midnight(&self, now: Millis) -> Millis {
        let left = DAY - self.moment(now).second;
        u64::try_from(left).unwrap_or(1) * 1000
    }
}

struct Counts {
    times: usize,
    types: usize,
}

/// The counts in a `TZif` header, and the length of the data behind it.
fn counts(block: &[u8], time_size: usize) -> Option<(Counts, usize)> {
    if block.get(..4)? != b"TZif" || *block.get(4)? < b'2' {
        return None;
    }
    let count = |i: usize| -> Option<usize> {
        let at = 20 + i * 4;
        let n = u32::from_be_bytes(block.get(at..at + 4)?.try_into().ok()?);
        (u64::from(n) <= MAX_FILE).then_some(n as usize)
    };
    let [utc, std, leap, times, types, chars] =
        [count(0)?, count(1)?, count(2)?, count(3)?, count(4)?, count(5)?];
    let len = times * (time_size + 1) + types * 6 + chars + leap * (time_size + 4) + std + utc;
    Some((Counts { times, types }, len))
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut s = text;
        name(&mut s)?;
        let standard = -offset_part(&mut s)?;
        if s.is_empty() {
            return Some(Self { standard, summer: None });
        }
        name(&mut s)?;
        let offset = match s.as_bytes().first()? {
            b',' => standard + 3600,
            _ => -offset_part(&mut s)?,
        };
        let mut turns = s.strip_prefix(',')?.split(',');
        let from = Turn::parse(turns.next()?)?;
        let to = Turn::parse(turns.next()?)?;
        Some(Self { standard, summer: Some(Summer { offset, from, to }) })
    }

    fn offset(&self, second: i64) -> i32 {
        let Some(summer) = self.summer else { return self.standard };
        let year = civil((second + i64::from(self.standard)).div_euclid(DAY)).0;
        let from = summer.from.at(year) - i64::from(self.standard);
        let to = summer.to.at(year) - i64::from(summer.offset);
        let is_summer =
            if from < to { (from..to).contains(&second) } else { !(to..from).contains(&second) };
        if is_summer { summer.offset } else { self.standard }
    }
}

impl Turn {
    fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once('/').unwrap_or((text, "2"));
        let mut parts = date.strip_prefix('M')?.split('.').map(|p| p.parse::<i64>().ok());
        let (month, week, weekday) = (parts.next()??, parts.next()??, parts.next()??);
        let mut time = time;
        let seconds = i64::from(offset_part(&mut time)?);
        ((1..=12).contains(&month) && (1..=5).contains(&week) && (0..=6).contains(&weekday))
            .then_some(Self { month, week, weekday, seconds })
    }

    /// Local seconds since 1970.
    fn at(self, year: i64) -> i64 {
        let first = days(year, self.month, 1);
        let mut day = first + (self.weekday - weekday(first)).rem_euclid(7) + (self.week - 1) * 7;
        let next_month =
            if self.month == 12 { days(year + 1, 1, 1) } else { days(year, self.month + 1, 1) };
        if day >= next_month {
            day -= 7;
        }
        day * DAY + self.seconds
    }
}

/// Takes a zone's abbreviation: letters, or anything in angle brackets.
fn name(s: &mut &str) -> Option<()> {
    let end = if s.starts_with('<') {
        s.find('>')? + 1
    } else {
        s.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(s.len())
    };
    *s = s.get(end..)?;
    (end > 0).then_some(())
}

/// Takes `[+-]hh[:mm[:ss]]`, as seconds.
fn offset_part(s: &mut &str) -> Option<i32> {
    let end = s.find(|c: char| !c.is_ascii_digit() && !"+-:".contains(c)).unwrap_or(s.len());
    let (part, rest) = s.split_at(end);
    *s = rest;
    let (sign, part) = match part.strip_prefix('-') {
        Some(part) => (-1, part),
        None => (1, part.strip_prefix('+').unwrap_or(part)),
    };
    let mut seconds = 0;
    for (n, unit) in part.split(':').zip([3600, 60, 1]) {
        seconds += n.parse::<u8>().ok().map(i32::from)? * unit;
    }
    Some(sign * seconds)
}

/// 0 for Sunday.
fn weekday(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}

/// Days since 1970 of a date of the Gregorian calendar (H. Hinnant's algorithm).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`]: year, month, day.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = years + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zone {
        let rule = Rule::parse("CET-1CEST,M3.5.0,M10.5.0/3");
        assert!(rule.is_some());
        Zone { changes: Vec::new(), first: 0, rule }
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for day in (-200_000..200_000).step_by(13) {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), day);
        }
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(20_779), (2026, 11, 22));
        assert_eq!(weekday(20_779), 0);
    }

    #[test]
    fn summer_time_turns_on_the_right_second() {
        let zone = berlin();
        // 2026-03-29 01:00 and 2026-10-25 01:00, both UTC.
        let spring = days(2026, 3, 29) * DAY + 3600;
        let autumn = days(2026, 10, 25) * DAY + 3600;
        assert_eq!((zone.offset(spring - 1), zone.offset(spring)), (3600, 7200));
        assert_eq!((zone.offset(autumn - 1), zone.offset(autumn)), (7200, 3600));
        let south = Rule::parse("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0");
        let zone = Zone { changes: Vec::new(), first: 0, rule: south };
        assert_eq!(zone.offset(days(2026, 1, 15) * DAY), 39_600);
        assert_eq!(zone.offset(days(2026, 7, 15) * DAY), 37_800);
    }

    #[test]
    fn a_zone_file_is_read_and_a_damaged_one_is_not() {
        // One 64-bit change to UTC+8 at 1000, and the rule of China.
        let mut file = Vec::new();
        for (time_size, times) in [(4usize, 0u32), (8, 1)] {
            file.extend(b"TZif2");
            file.extend([0; 15]);
            for n in [0, 0, 0, times, 2, 0] {
                file.extend(u32::to_be_bytes(n));
            }
            if times == 1 {
                file.extend(&1000i64.to_be_bytes()[8 - time_size..]);
                file.push(1);
            }
            for offset in [0i32, 28_800] {
                file.extend(offset.to_be_bytes());
                file.extend([0; 2]);
            }
        }
        file.extend(b"\nCST-8\n");
        let zone = Zone::parse(&file).unwrap();
        assert_eq!(zone.changes, [(1000, 28_800)]);
        assert_eq!((zone.offset(999), zone.offset(1000)), (0, 28_800));
        assert_eq!(zone.moment(0), Moment { day: 0, second: 0 });
        assert_eq!(zone.moment(20 * 3_600_000).day, 1);
        for len in 0..file.len() - b"\nCST-8\n".len() {
            assert_eq!(Zone::parse(&file[..len]), None, "{len}");
        }
    }

    #[test]
    fn words_by_distance() {
        let zone = Zone::utc();
        let now = 20_779 * 86_400_000 + 50_000_000;
        let ago = |days: u64| zone.short(now - days * 86_400_000, now);
        assert_eq!(ago(0), "13:53");
        assert_eq!(ago(1), strings::yesterday());
        assert_eq!(ago(6), strings::weekday_short(1));
        assert_eq!(ago(30), strings::date_short(10, 23));
        assert_eq!(ago(400), "2025-10-18");
        assert_eq!(zone.until_midnight(now), 86_400_000 - 50_000_000);
    }
}
