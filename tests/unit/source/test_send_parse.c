/* SPDX-License-Identifier: MIT */
/* The parser of btrfs send streams: what each command means for a file, pieces of any size, and damage
 * anywhere: an error and everything changed, never too little. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <limits.h>

#include "engine/source/changes.h"
#include "tests/support/send_stream.h"

#define ALL UINT64_MAX
#define N(...)                                                                                               \
	(const uint64_t[][2])                                                                                \
	{                                                                                                    \
		__VA_ARGS__,                                                                                 \
		{                                                                                            \
			0, 0                                                                                 \
		}                                                                                            \
	}

static struct send_stream stream;

/* Two files: "d/vol" and "vol". */
struct parse {
	struct changes_file files[2];
	int rc;
	struct sosie_err err;
};

static void parse_bytes(struct parse *p, const uint8_t *data, size_t len, size_t piece)
{
	struct send_parser *parser;

	p->files[0].path = "d/vol";
	p->files[1].path = "vol";
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(changes_new(64, &p->files[i].changes, NULL), 0);
	assert_int_equal(send_parser_new(p->files, 2, &parser, &p->err), 0);
	p->rc = 0;
	for (size_t at = 0; at < len && p->rc == 0; at += piece)
		p->rc = send_parser_feed(parser, data + at, len - at < piece ? len - at : piece, &p->err);
	if (p->rc == 0)
		p->rc = send_parser_end(parser, &p->err);
	else
		assert_true(send_parser_end(parser, &p->err) < 0);
	send_parser_free(parser);
	for (unsigned i = 0; i < 2; i++)
		changes_seal(p->files[i].changes);
}

static void parse_free(struct parse *p)
{
	changes_free(p->files[0].changes);
	changes_free(p->files[1].changes);
}

static void begin(unsigned version)
{
	send_begin(&stream, version);
	send_snapshot(&stream);
}

/* Ends the stream; file: 0 or 1; its first range is [start, end), it has that many bytes in all. */
static void tells(unsigned file, uint64_t start, uint64_t end, uint64_t bytes)
{
	static const size_t pieces[] = {1, 3, 7, 64, sizeof(stream.bytes)};
	size_t len = stream.len;

	send_end(&stream);
	for (unsigned i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		struct parse p;
		uint64_t a = 0, b = 0;

		parse_bytes(&p, stream.bytes, stream.len, pieces[i]);
		assert_int_equal(p.rc, 0);
		assert_true(changes_bytes(p.files[file].changes) == bytes);
		if (bytes > 0) {
			assert_true(changes_next(p.files[file].changes, 0, &a, &b));
			assert_true(a == start && b == end);
		}
		parse_free(&p);
	}
	stream.len = len;
}

static void nothing(unsigned file)
{
	tells(file, 0, 0, 0);
}

static void wholly(unsigned file)
{
	tells(file, 0, ALL, ALL);
}

static void test_parse_nothing_changed_tells_nothing(void **state)
{
	(void)state;
	for (unsigned v = 1; v <= 3; v++) {
		begin(v);
		nothing(0);
		nothing(1);
	}
}

static void test_parse_ranges_are_told_for_their_file_only(void **state)
{
	(void)state;
	begin(1);
	send_simple(&stream, 22, "d/vol", N({18, 4096}, {4, 8192}));
	tells(0, 4096, 12288, 8192);
	nothing(1);
	send_simple(&stream, 16, "d/vol", N({18, 100000}, {24, 10}));
	tells(0, 4096, 12288, 8202);
	send_simple(&stream, 17, "vol", N({4, 777}));
	tells(1, 777, ALL, ALL - 777);
	tells(0, 4096, 12288, 8202);
	send_simple(&stream, 22, "d/vo", N({18, 0}, {4, 1}));
	send_simple(&stream, 22, "d/vol2", N({18, 0}, {4, 1}));
	send_simple(&stream, 22, "x/vol", N({18, 0}, {4, 1}));
	tells(0, 4096, 12288, 8202);
	send_simple(&stream, 22, "d/vol", N({18, ALL - 5}, {4, 1000}));
	tells(0, 4096, 12288, 8207);
}

static void test_parse_writes_count_their_length_in_each_version(void **state)
{
	static uint8_t data[70000];

	(void)state;
	for (unsigned v = 1; v <= 3; v++) {
		size_t len = v == 1 ? 50000 : sizeof(data);

		begin(v);
		send_command(&stream, 15);
		send_text(&stream, 15, "vol");
		send_u64(&stream, 18, 4096);
		send_value(&stream, 19, data, len);
		send_close(&stream);
		tells(1, 4096, 4096 + len, len);
		nothing(0);
	}
	send_simple(&stream, 25, "d/vol", N({18, 0}, {27, 131072}));
	tells(0, 0, 131072, 131072);
}

static void test_parse_fallocate_that_shifts_changes_all_behind(void **state)
{
	(void)state;
	for (unsigned mode = 0; mode < 64; mode++) {
		begin(2);
		send_command(&stream, 23);
		send_text(&stream, 15, "vol");
		send_number(&stream, 25, 2);
		send_number(&stream, 4, 2);
		send_number(&stream, mode, 4);
		send_u64(&stream, 18, 10);
		send_u64(&stream, 4, 20);
		send_close(&stream);
		if (mode & 0x28)
			tells(1, 10, ALL, ALL - 10);
		else
			tells(1, 10, 30, 20);
	}
	begin(2);
	send_simple(&stream, 23, "vol", N({18, 10}, {4, 20}));
	tells(1, 10, ALL, ALL - 10);
}

static void test_parse_metadata_changes_no_content(void **state)
{
	static const unsigned commands[] = {13, 14, 18, 19, 20, 24};

	(void)state;
	begin(2);
	for (unsigned i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		send_simple(&stream, commands[i], "vol", NULL);
		send_simple(&stream, commands[i], "", NULL);
	}
	nothing(0);
	nothing(1);
}

static void test_parse_names_made_moved_removed_change_files_below(void **state)
{
	static const unsigned one[] = {3, 4, 5, 6, 7, 11, 12, 26};

	(void)state;
	for (unsigned i = 0; i < sizeof(one) / sizeof(*one); i++) {
		begin(3);
		send_simple(&stream, one[i], "d/x", NULL);
		send_simple(&stream, one[i], "dd", NULL);
		nothing(0);
		nothing(1);
		send_simple(&stream, one[i], "d", NULL);
		wholly(0);
		nothing(1);
	}
	begin(1);
	send_two(&stream, 9, "o257-7-0", 16, "vol");
	wholly(1);
	nothing(0);
	send_two(&stream, 9, "d/vol", 16, "elsewhere");
	wholly(0);
	begin(1);
	send_two(&stream, 10, "second", 17, "vol"); /* a link: what follows may come under its name */
	wholly(1);
	nothing(0);
	send_two(&stream, 10, "d/vol", 17, "first");
	wholly(0);
	begin(1);
	send_two(&stream, 8, "link", 17, "/../vol"); /* the text of a symbolic link means nothing */
	nothing(0);
	send_two(&stream, 8, "vol", 17, "x");
	wholly(1);
	begin(1);
	send_simple(&stream, 11, "", NULL); /* the top itself */
	wholly(0);
	wholly(1);
}

static void test_parse_what_is_not_known_changes_everything(void **state)
{
	(void)state;
	begin(1);
	send_simple(&stream, 27, "other", NULL);
	wholly(0);
	wholly(1);
	begin(1);
	send_simple(&stream, 65535, "other", NULL);
	wholly(0);
	begin(1);
	send_simple(&stream, 20, "other", N({36, 1}));
	wholly(0);
	send_begin(&stream, 1);
	send_simple(&stream, 1, "full", NULL);
	wholly(0);
	send_begin(&stream, 4);
	send_bytes(&stream, "what version 4 may be", 21);
	wholly(0);
	wholly(1);
}

/* --- damage */

static void refused(const char *why)
{
	struct parse p;

	parse_bytes(&p, stream.bytes, stream.len, 5);
	if (p.rc != -SOSIE_EPROTO)
		fail_msg("accepted: %s", why);
	assert_true(changes_is_all(p.files[0].changes) && changes_is_all(p.files[1].changes));
	parse_free(&p);
}

/* A command that is wrong in itself, under a right checksum. */
static void wrong_path(const char *path)
{
	begin(1);
	send_simple(&stream, 20, path, NULL);
	send_end(&stream);
	refused(path);
}

static void test_parse_wrong_commands_are_refused(void **state)
{
	static const uint64_t lacks[][2] = {{15, 0},  {16, 18}, {17, 0}, {22, 18}, {22, 4},
	                                    {23, 18}, {25, 18}, {9, 0},  {8, 0},   {10, 0}};
	static const char *const paths[] = {"/vol", "vol/", "a//b", ".", "..", "a/../vol", "./vol", "d/."};

	(void)state;
	for (unsigned i = 0; i < sizeof(lacks) / sizeof(*lacks); i++) {
		begin(2);
		send_simple(&stream, (unsigned)lacks[i][0], "other",
		            lacks[i][1] ? N({lacks[i][1], 0}) : NULL);
		send_end(&stream);
		refused("a command lacks something");
	}
	for (unsigned i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		wrong_path(paths[i]);
	begin(1);
	send_simple(&stream, 22, "vol", N({18, 0}, {4, 1}, {4, 2}));
	send_end(&stream);
	refused("an attribute twice");
	begin(1);
	send_command(&stream, 20);
	send_value(&stream, 15, "a\0b", 3);
	send_close(&stream);
	refused("a zero in a path");
	begin(1);
	send_command(&stream, 22);
	send_text(&stream, 15, "vol");
	send_value(&stream, 4, "1234567", 7);
	send_close(&stream);
	refused("a short number");
}

static void test_parse_wrong_streams_are_refused(void **state)
{
	static char path[PATH_MAX + 1];

	(void)state;
	begin(1);
	refused("no end");
	send_end(&stream);
	send_number(&stream, 0, 1);
	refused("a byte behind the end");
	begin(1);
	send_snapshot(&stream);
	refused("two snapshots");
	send_begin(&stream, 1);
	send_end(&stream);
	refused("no snapshot");
	stream.len = 0;
	refused("nothing at all");
	begin(1);
	send_number(&stream, (16u << 20) + 65537, 4);
	send_number(&stream, 15, 2);
	send_number(&stream, 0, 4);
	refused("too long");
	memset(path, 'x', PATH_MAX);
	wrong_path(path);
	path[PATH_MAX - 1] = 0; /* the longest there is */
	begin(1);
	send_simple(&stream, 20, path, NULL);
	nothing(0);
}

/* Every single byte damaged, every length cut: refused, but for bytes of the version (another version is not
 * read: everything). */
static void test_parse_every_damaged_byte_and_every_cut_is_found(void **state)
{
	unsigned found = 0, versions = 0;
	size_t len;

	(void)state;
	begin(1);
	send_simple(&stream, 22, "d/vol", N({18, 4096}, {4, 8192}));
	send_two(&stream, 9, "a", 16, "b");
	send_end(&stream);
	len = stream.len;
	for (size_t i = 0; i < len * 8; i++) {
		struct parse p;

		stream.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		parse_bytes(&p, stream.bytes, len, len);
		assert_true(p.rc == -SOSIE_EPROTO || (i / 8 >= 13 && i / 8 < 17));
		found += p.rc != 0;
		if (p.rc == 0 && changes_is_all(p.files[1].changes))
			versions++;
		parse_free(&p);
		stream.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_true(found >= (len - 4) * 8 && versions >= 29);
	for (stream.len = 0; stream.len < len; stream.len++)
		refused("cut");
}

static void test_parse_paths_that_are_none_are_our_own_fault(void **state)
{
	static const char *const paths[] = {"", "/x", "a/../b", "a//b", "."};
	struct send_parser *parser;
	struct changes_file file = {.path = NULL};

	(void)state;
	for (unsigned i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		file.path = paths[i];
		assert_int_equal(send_parser_new(&file, 1, &parser, NULL), -SOSIE_EINTERNAL);
		assert_null(parser);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_parse_nothing_changed_tells_nothing),
	        cmocka_unit_test(test_parse_ranges_are_told_for_their_file_only),
	        cmocka_unit_test(test_parse_writes_count_their_length_in_each_version),
	        cmocka_unit_test(test_parse_fallocate_that_shifts_changes_all_behind),
	        cmocka_unit_test(test_parse_metadata_changes_no_content),
	        cmocka_unit_test(test_parse_names_made_moved_removed_change_files_below),
	        cmocka_unit_test(test_parse_what_is_not_known_changes_everything),
	        cmocka_unit_test(test_parse_wrong_commands_are_refused),
	        cmocka_unit_test(test_parse_wrong_streams_are_refused),
	        cmocka_unit_test(test_parse_every_damaged_byte_and_every_cut_is_found),
	        cmocka_unit_test(test_parse_paths_that_are_none_are_our_own_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
