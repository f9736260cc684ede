#include "timestamp.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND_US ((int64_t)1000000)
#define SECONDS_BELOW ((int64_t)100000000000) /* larger integers are milliseconds */

enum { DATE_TIME_BYTES = 19, FRACTION_LIMIT_DIGITS = 9, MICRO_DIGITS = 6 };
enum { OFFSET_BYTES = 6 }; /* +hh:mm */

struct civil {
    int year, month, day, hour, minute, second;
};

static inline bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/* A number of two digits; *wrong becomes true unless it is one, and at most `most`. */
static inline int read_two(const char *at, int most, bool *wrong)
{
    unsigned tens = (uint8_t)(at[0] - '0'), ones = (uint8_t)(at[1] - '0');
    int number = (int)(tens * 10 + ones);
    *wrong |= (tens > 9) | (ones > 9) | (number > most); /* all at once: none of them is likely */
    return number;
}

static bool is_leap_year(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap_year(year));
}

/* Days since 1970-01-01. Years begin in March here, so that the leap day is a year's last. */
static int64_t days_since_1970(int year, int month, int day)
{
    int64_t years = month > 2 ? year : year - 1;
    int64_t leap_days = years >= 0 ? years / 4 - years / 100 + years / 400 : -1; /* of year 0 at most */
    int64_t month_days = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5;
    return years * 365 + leap_days + month_days + day - 1 - 719468;
}

/* The part of fixed length: 2026-11-22T09:30:00. */
static bool read_date_time(const char *at, struct civil *civil)
{
    bool wrong = (at[4] != '-') | (at[7] != '-') | (at[13] != ':') | (at[16] != ':');
    wrong |= at[10] != 'T' && at[10] != 't' && at[10] != ' ';
    civil->year = read_two(at, 99, &wrong) * 100 + read_two(at + 2, 99, &wrong);
    civil->month = read_two(at + 5, 12, &wrong);
    civil->day = read_two(at + 8, 31, &wrong);
    civil->hour = read_two(at + 11, 23, &wrong);
    civil->minute = read_two(at + 14, 59, &wrong);
    civil->second = read_two(at + 17, 60, &wrong);
    return !wrong && civil->month >= 1 && civil->day >= 1 &&
           civil->day <= days_in_month(civil->year, civil->month);
}

/* Moves *at behind the fraction, if there is one. */
static bool read_fraction(const char **at, const char *end, int64_t *fraction_us)
{
    *fraction_us = 0;
    if (**at != '.') /* there is at least one character: see DATE_TIME_BYTES */
        return true;
    const char *first = ++*at;
    for (; *at < end && is_digit(**at); ++*at)
        if (*at - first < MICRO_DIGITS)
            *fraction_us = *fraction_us * 10 + (**at - '0');
    static const int32_t units_us[MICRO_DIGITS + 1] = {1000000, 100000, 10000, 1000, 100, 10, 1};
    int64_t digits = *at - first;
    *fraction_us *= units_us[digits < MICRO_DIGITS ? digits : MICRO_DIGITS];
    return digits >= 1 && digits <= FRACTION_LIMIT_DIGITS;
}

static bool read_offset(const char *at, const char *end, int64_t *offset_s)
{
    *offset_s = 0;
    if (end - at == 1)
        return *at == 'Z' || *at == 'z';
    if (end - at != OFFSET_BYTES || (*at != '+' && *at != '-') || at[3] != ':')
        return false;
    bool wrong = false;
    int hours = read_two(at + 1, 23, &wrong);
    int minutes = read_two(at + 4, 59, &wrong);
    *offset_s = (*at == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return !wrong;
}

bool timestamp_from_rfc3339(struct text text, int64_t *time_us)
{
    struct civil civil;
    int64_t fraction_us;
    int64_t offset_s;
    if (text.length <= DATE_TIME_BYTES || !read_date_time(text.bytes, &civil))
        return false;
    const char *at = text.bytes + DATE_TIME_BYTES;
    const char *end = text.bytes + text.length;
    if (!read_fraction(&at, end, &fraction_us) || !read_offset(at, end, &offset_s))
        return false;
    if (civil.second == 60)
        fraction_us = 0;
    int64_t time_s = days_since_1970(civil.year, civil.month, civil.day) * 86400 + civil.hour * 3600 +
                     civil.minute * 60 + civil.second - offset_s;
    *time_us = time_s * SECOND_US + fraction_us;
    return true;
}

bool timestamp_from_integer(struct text text, int64_t *time_us)
{
    const char *at = text.bytes;
    const char *end = at + text.length;
    bool negative = at < end && *at == '-';
    at += negative;
    if (at == end)
        return false;
    int64_t number = 0;
    for (; at < end; at++) {
        if (!is_digit(*at) || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, *at - '0', &number))
            return false;
    }
    int64_t unit_us = number < SECONDS_BELOW ? SECOND_US : 1000;
    return !__builtin_mul_overflow(negative ? -number : number, unit_us, time_us);
}

/* The year and month that a day lies in, and its number there. */
static struct civil civil_of_day(int64_t day)
{
    struct civil civil = {.year = (int)(1970 + day * 400 / 146097), .month = 1};
    while (days_since_1970(civil.year, 1, 1) > day)
        civil.year--;
    while (days_since_1970(civil.year + 1, 1, 1) <= day)
        civil.year++;
    while (civil.month < 12 && days_since_1970(civil.year, civil.month + 1, 1) <= day)
        civil.month++;
    civil.day = (int)(day - days_since_1970(civil.year, civil.month, 1)) + 1;
    return civil;
}

size_t timestamp_text(int64_t time_us, char text[TIMESTAMP_TEXT_BYTES])
{
    const int64_t day_us = 86400 * SECOND_US;
    int64_t day = time_us / day_us - (time_us % day_us < 0);
    int64_t rest_us = time_us - day * day_us;
    struct civil civil = civil_of_day(day);
    int second = (int)(rest_us / SECOND_US), fraction_us = (int)(rest_us % SECOND_US);
    int length = snprintf(text, TIMESTAMP_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d", civil.year,
                          civil.month, civil.day, second / 3600, second / 60 % 60, second % 60);
    if (fraction_us != 0)
        length += snprintf(text + length, TIMESTAMP_TEXT_BYTES - (size_t)length, ".%06d", fraction_us);
    text[length++] = 'Z';
    text[length] = '\0';
    return (size_t)length;
}

size_t timestamp_text_ms(int64_t time_ms, char text[TIMESTAMP_TEXT_BYTES])
{
    size_t length = timestamp_text(time_ms * 1000, text);
    if (time_ms % 1000 == 0)
        return length;
    memcpy(text + length - 4, "Z", sizeof "Z"); /* in place of 000Z */
    return length - 3;
}
