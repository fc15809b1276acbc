/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/cli/command.h"

bool cli_refuse(char *why, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(why, CLI_WHY_SIZE, format, ap);
	va_end(ap);
	return false;
}

bool cli_parse_count(const char *text, uint64_t most, uint64_t *value, char *why)
{
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end)
		return cli_refuse(why, "it is not a whole number");
	if (errno || number > most)
		return cli_refuse(why, "it is more than %llu", (unsigned long long)most);
	*value = number;
	return true;
}

/* Reads a decimal number of units of `unit_ns`, without rounding errors. False if the result does not fit. */
static bool scale(const char **text, int64_t unit_ns, int64_t *ns)
{
	__int128 whole = 0, fraction = 0, divisor = 1;
	const char *at = *text;
	for (; isdigit((unsigned char)*at); at++) {
		whole = whole * 10 + (*at - '0');
		if (whole > INT64_MAX)
			return false;
	}
	if (*at == '.') {
		for (at++; isdigit((unsigned char)*at); at++) {
			if (divisor > 1000000000000000ll)
				continue; /* less than a nanosecond of any unit */
			fraction = fraction * 10 + (*at - '0');
			divisor *= 10;
		}
	}
	__int128 total = whole * unit_ns + (fraction * unit_ns + divisor - 1) / divisor;
	*text = at;
	*ns = total > INT64_MAX ? INT64_MAX : (int64_t)total;
	return total <= INT64_MAX;
}

bool cli_parse_duration(const char *text, int64_t *ms, char *why)
{
	static const struct {
		const char *suffix;
		int64_t ns;
	} units[] = {{"", 1000000000}, {"s", 1000000000}, {"ms", 1000000}, {"us", 1000}, {"m", 60000000000},
	        {"h", 3600000000000}, {"d", 86400000000000}};
	const char *shape = "it is not a duration; write a number and ms, s, m, h or d, as in 1.5s";
	if (text[0] == '-')
		return cli_refuse(why, "it is negative");
	if (!isdigit((unsigned char)text[0]))
		return cli_refuse(why, "%s", shape);
	const char *suffix = text + strspn(text, "0123456789.");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(suffix, units[i].suffix) != 0)
			continue;
		const char *at = text;
		int64_t ns;
		if (!scale(&at, units[i].ns, &ns))
			return cli_refuse(why, "it is too long");
		if (at != suffix)
			return cli_refuse(why, "%s", shape);
		*ms = ns / 1000000 + (ns % 1000000 != 0);
		return true;
	}
	return cli_refuse(why, "%s", shape);
}

bool cli_parse_memory(const char *text, uint32_t *mib, char *why)
{
	const char *shape = "it is not a memory size; write a number of MiB, or a number and M or G";
	char digits[32];
	size_t length = strspn(text, "0123456789");
	const char *suffix = text + length;
	uint64_t number;
	unsigned shift = 0;
	if (length == 0 || length >= sizeof(digits))
		return cli_refuse(why, "%s", shape);
	memcpy(digits, text, length);
	digits[length] = '\0';
	if (strcasecmp(suffix, "g") == 0 || strcasecmp(suffix, "gib") == 0)
		shift = 10;
	else if (suffix[0] && strcasecmp(suffix, "m") != 0 && strcasecmp(suffix, "mib") != 0)
		return cli_refuse(why, "%s", shape);
	if (!cli_parse_count(digits, UINT32_MAX >> shift, &number, why))
		return false;
	if (number == 0)
		return cli_refuse(why, "a guest requires memory");
	*mib = (uint32_t)(number << shift);
	return true;
}

/* RFC 3339, or a duration before now. */
bool cli_take_time(const struct cli_option *option, const char *text, void *to, char *why)
{
	int64_t ms, *realtime_ns = to;
	(void)option;
	if (cli_parse_duration(text, &ms, why)) {
		struct timespec now;
		clock_gettime(CLOCK_REALTIME, &now);
		int64_t now_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
		*realtime_ns = ms > now_ns / 1000000 ? 0 : now_ns - ms * 1000000;
		return true;
	}
	const char *shape = "write a duration, as in 10m, or a time, as in 2026-01-31T12:00:00Z";
	struct tm tm = {0};
	char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!rest)
		return cli_refuse(why, "%s", shape);
	int64_t ns = 0;
	if (*rest == '.') {
		int64_t unit = 100000000;
		for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
			ns += (*rest - '0') * unit;
	}
	int hours = 0, minutes = 0, used = 0;
	char sign = '+';
	if (strcmp(rest, "Z") != 0 &&
	        (sscanf(rest, "%c%2d:%2d%n", &sign, &hours, &minutes, &used) != 3 || rest[used] || !strchr("+-", sign)))
		return cli_refuse(why, "%s", shape);
	int64_t offset = (hours * 60 + minutes) * 60ll * (sign == '-' ? -1 : 1);
	*realtime_ns = ((int64_t)timegm(&tm) - offset) * 1000000000ll + ns;
	return true;
}

/* ---- Values of options ---- */

bool cli_take_flag(const struct cli_option *option, const char *text, void *to, char *why)
{
	(void)option;
	(void)text;
	(void)why;
	*(bool *)to = true;
	return true;
}

bool cli_take_text(const struct cli_option *option, const char *text, void *to, char *why)
{
	(void)option;
	(void)why;
	*(const char **)to = text;
	return true;
}

bool cli_take_number(const struct cli_option *option, const char *text, void *to, char *why)
{
	uint64_t value;
	if (!cli_parse_count(text, option->most, &value, why))
		return false;
	if (value < option->least && option->most == UINT64_MAX)
		return cli_refuse(why, "give at least %llu", (unsigned long long)option->least);
	if (value < option->least)
		return cli_refuse(
		        why, "give %llu to %llu", (unsigned long long)option->least, (unsigned long long)option->most);
	*(uint64_t *)to = value;
	return true;
}

bool cli_take_memory(const struct cli_option *option, const char *text, void *to, char *why)
{
	(void)option;
	return cli_parse_memory(text, to, why);
}

bool cli_take_duration(const struct cli_option *option, const char *text, void *to, char *why)
{
	(void)option;
	return cli_parse_duration(text, to, why);
}
