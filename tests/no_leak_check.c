/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For programs that the tests of a sanitized build start by the thousand: a search for leaks at their end would be most
 * of what they cost, and nobody would read its report. Leaks of what is in them are found by the unit tests, and by
 * tests/faults, which searches when it has injected a fault.
 */
const char *__asan_default_options(void);

__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
	return "leak_check_at_exit=0";
}
