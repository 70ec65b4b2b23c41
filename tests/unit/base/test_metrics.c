/* SPDX-License-Identifier: MIT */
/* Metrics as text, and the file that is replaced whole. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sosie/metrics.h"

static void test_metrics_labels_are_escaped(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	sosie_metrics_time(out, "x_time", 1790000000123);
	sosie_metrics_family(out, "x_y", "gauge", "Some help.");
	sosie_metrics_sample(out, "x_y", 1.5, "a", "b\\c\"d\ne", "f", "g", SOSIE_METRICS_END);
	sosie_metrics_sample(out, "x_y", 2, SOSIE_METRICS_END);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, "# HELP x_time When this file was written.\n# TYPE x_time gauge\n"
	                          "x_time 1790000000.123\n# HELP x_y Some help.\n# TYPE x_y gauge\n"
	                          "x_y{a=\"b\\\\c\\\"d\\ne\",f=\"g\"} 1.5\nx_y 2\n");
	free(text);
}

static void test_metrics_file_is_replaced_and_a_planted_link_is_not_followed(void **state)
{
	char dir[] = "/tmp/sosie-metrics.XXXXXX", path[64], other[64], read[16] = "";
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(sosie_metrics_replace(path, "one\n", 4), 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(lstat(other, &st), -1);
	assert_int_equal(sosie_metrics_replace(path, "two\n", 4), 0);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(read, 1, sizeof(read) - 1, f), 4);
	fclose(f);
	assert_string_equal(read, "two\n");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0); /* nothing was left beside it */
	assert_int_equal(sosie_metrics_replace(path, "x", 1), ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_metrics_labels_are_escaped),
	        cmocka_unit_test(test_metrics_file_is_replaced_and_a_planted_link_is_not_followed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
