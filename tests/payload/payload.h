/* SPDX-License-Identifier: Apache-2.0 */
/* What the payload takes from its processor: payload_x86_64.c, payload_aarch64.c. */
#ifndef WISP_PAYLOAD_H
#define WISP_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

/* Makes devices accessible. `boot` is what the boot protocol passes; returns the command line. */
const char *payload_begin(const void *boot);

/* What the boot protocol promises, seen from the inside. */
bool payload_boot_is_right(const void *boot, const char *cmdline);

uint32_t payload_read_device(uint64_t addr);
void payload_write_device(uint64_t addr, uint32_t value);

void payload_write_power(uint8_t value);
void payload_reset(bool after_panic);

/* Where no device is, reads give ones and writes go nowhere. */
bool payload_void_is_empty(void);

/* Payloads that only this processor has. False if `name` is none of them. */
bool payload_run_other(const char *name);

uint64_t payload_read_clock(void);
void payload_set_vector(uint64_t value); /* a register that only vector instructions have */
uint64_t payload_get_vector(void);
void payload_relax(void);
void payload_spin(void) __attribute__((noreturn));

/* Of payload.c. */
void payload(const void *boot);
bool payload_starts_with(const char *text, const char *prefix);
const char *payload_find(const char *text, const char *what);
void payload_finish(bool good);

#endif
