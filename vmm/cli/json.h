/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON, one value after another, with its commas and quoting. The key is NULL for an element of an array. */
#ifndef WISP_CLI_JSON_H
#define WISP_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct cli_json {
	FILE *to;
	bool comma;
};

void cli_json_open(struct cli_json *json, const char *key, char bracket);
void cli_json_close(struct cli_json *json, char bracket);
/* Bytes that are not UTF-8 become U+FFFD. */
void cli_json_string(struct cli_json *json, const char *key, const char *value);
void cli_json_number(struct cli_json *json, const char *key, int64_t value);
void cli_json_bool(struct cli_json *json, const char *key, bool value);
void cli_json_time(struct cli_json *json, const char *key, int64_t realtime_ns);
void cli_json_strings(struct cli_json *json, const char *key, const char *const *values);

#endif
