/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <time.h>

#include "vmm/cli/json.h"
#include "vmm/shared/utf8.h"

static void put_string(FILE *to, const char *text)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + strlen(text);
	fputc('"', to);
	while (s < end) {
		size_t length = utf8_length(s, (size_t)(end - s));
		if (*s == '"' || *s == '\\')
			fprintf(to, "\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f)
			fprintf(to, "\\u%04x", *s);
		else if (length == 2 && *s == 0xc2 && s[1] < 0xa0) /* C1, which would control a terminal */
			fprintf(to, "\\u%04x", s[1]);
		else if (length == 0)
			fputs("\\ufffd", to);
		else
			fwrite(s, 1, length, to);
		s += length ? length : 1;
	}
	fputc('"', to);
}

static void begin(struct cli_json *json, const char *key)
{
	if (json->comma)
		fputc(',', json->to);
	json->comma = true;
	if (key) {
		put_string(json->to, key);
		fputc(':', json->to);
	}
}

void cli_json_open(struct cli_json *json, const char *key, char bracket)
{
	begin(json, key);
	fputc(bracket, json->to);
	json->comma = false;
}

void cli_json_close(struct cli_json *json, char bracket)
{
	fputc(bracket, json->to);
	json->comma = true;
}

void cli_json_string(struct cli_json *json, const char *key, const char *value)
{
	begin(json, key);
	put_string(json->to, value);
}

void cli_json_number(struct cli_json *json, const char *key, int64_t value)
{
	begin(json, key);
	fprintf(json->to, "%lld", (long long)value);
}

void cli_json_bool(struct cli_json *json, const char *key, bool value)
{
	begin(json, key);
	fputs(value ? "true" : "false", json->to);
}

void cli_json_time(struct cli_json *json, const char *key, int64_t realtime_ns)
{
	char text[64];
	time_t seconds = realtime_ns / 1000000000;
	struct tm tm;
	size_t length = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
	snprintf(text + length, sizeof(text) - length, ".%09lldZ", (long long)(realtime_ns % 1000000000));
	cli_json_string(json, key, text);
}

void cli_json_strings(struct cli_json *json, const char *key, const char *const *values)
{
	cli_json_open(json, key, '[');
	for (; *values; values++)
		cli_json_string(json, NULL, *values);
	cli_json_close(json, ']');
}
