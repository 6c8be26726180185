//! Dates: those of EFI and of FAT. The guest's clock tells UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    nanosecond: u32,
}

impl Time {
    pub fn of(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Years that begin in March, in cycles of 400 years: leap days come last then.
        let day = days + 719_468;
        let (cycle, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
        let year = year + cycle * 400 + u64::from(month <= 2);
        Self {
            year: year as u16,
            month: month as u8,
            day: day as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            nanosecond: since.subsec_nanos(),
        }
    }

    pub fn from_fat((date, time): (u16, u16)) -> Self {
        Self {
            year: 1980 + (date >> 9),
            month: (date >> 5 & 0xf).clamp(1, 12) as u8,
            day: (date & 0x1f).max(1) as u8,
            hour: (time >> 11).min(23) as u8,
            minute: (time >> 5 & 0x3f).min(59) as u8,
            second: ((time & 0x1f) * 2).min(59) as u8,
            nanosecond: 0,
        }
    }

    /// Date and time of a FAT entry.
    pub fn fat(&self) -> (u16, u16) {
        let year = self.year.clamp(1980, 2107) - 1980;
        let date = year << 9 | u16::from(self.month) << 5 | u16::from(self.day);
        (date, u16::from(self.hour) << 11 | u16::from(self.minute) << 5 | u16::from(self.second / 2))
    }

    /// `EFI_TIME` (8.3), in UTC.
    pub fn efi(&self) -> [u8; 16] {
        let [y0, y1] = self.year.to_le_bytes();
        let [n0, n1, n2, n3] = self.nanosecond.to_le_bytes();
        [y0, y1, self.month, self.day, self.hour, self.minute, self.second, 0, n0, n1, n2, n3, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_right() {
        for (seconds, date) in [
            (0, (1970, 1, 1, 0, 0, 0)),
            (951_827_696, (2000, 2, 29, 12, 34, 56)),
            (1_709_251_199, (2024, 2, 29, 23, 59, 59)),
            (1_709_251_200, (2024, 3, 1, 0, 0, 0)),
            (4_107_542_400, (2100, 3, 1, 0, 0, 0)),
        ] {
            let t = Time::of(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!((t.year, t.month, t.day, t.hour, t.minute, t.second), date);
        }
        let t = Time::of(UNIX_EPOCH + Duration::from_secs(951_827_696));
        assert_eq!(Time::from_fat(t.fat()), t);
    }
}
