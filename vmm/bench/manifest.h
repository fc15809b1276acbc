/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a measurement: host, kernel, files, and options. */
#ifndef WISP_BENCH_MANIFEST_H
#define WISP_BENCH_MANIFEST_H

#include "vmm/bench/bench.h"
#include "vmm/cli/json.h"

struct bench_manifest;
struct bench_manifest *bench_read_manifest(const struct bench *bench);
void bench_free_manifest(struct bench_manifest *manifest);
void bench_print_manifest(const struct bench_manifest *manifest, FILE *to);
/* "" if it is unknown. */
const char *bench_get_manifest(const struct bench_manifest *manifest, const char *key);
void bench_json_manifest(const struct bench_manifest *manifest, struct cli_json *json);
/* The kernel that a configuration boots; the result may be in `buffer`. */
const char *bench_kernel_path(const struct bench *bench, const struct bench_setup *setup, char *buffer, size_t size);

/* sha256.c: the hash of a file, as 64 hexadecimal digits. False if the file cannot be read. */
bool bench_hash_file(const char *path, char hex[65]);

#endif
