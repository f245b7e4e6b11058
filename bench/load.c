/*
 * A load generator that is not the bottleneck: one thread, epoll, keep-alive.
 *
 *   load PORT PATH BODY_FILE HEADERS_FILE CONNECTIONS RATE SECONDS STATUS END
 *
 * A line of HEADERS_FILE holds the headers that a request has beside the usual ones, separated by tabs. Requests take
 * the lines in turn: a key a line.
 *
 * RATE 0: every connection sends its next request as soon as it has its answer. Otherwise requests arrive at that
 * rate, evenly, whether or not answers come, and wait for a free connection; the wait is part of their time.
 * After SECONDS no request arrives any more; all that have arrived are sent, and their answers are waited for.
 *
 * An answer is as expected if it has this STATUS and its body, read to its end, closes with END.
 *
 * Prints one line of JSON: requests answered as expected, answered otherwise and not answered; seconds in which they
 * arrived; and in microseconds the times of whole requests and the times that stream chunks were under way (from
 * their `sent_ns` until they were read here).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, HEAD_BYTES_MAX = 8 * 1024, TAIL_BYTES = 32, EVENTS_MAX = 512 };
enum { KEYS_MAX = 1 << 18, SAMPLES_MAX = 8000000 };
static const long long answers_awaited_ns = 30000000000LL;

enum state { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, LAST_LINE, WHOLE };

struct connection {
  int socket;
  int busy;
  long long arrived_ns;
  /* Of the request: what is still to be written. */
  const char *unsent;
  size_t unsent_bytes;
  /* Of the answer. */
  enum state state;
  char head[HEAD_BYTES_MAX + 1], tail[TAIL_BYTES];
  size_t head_bytes, tail_bytes, left;
  int status, closes;
};

struct samples {
  float *us;
  size_t count;
};

static const char *path, *body, *expected_end;
static size_t body_bytes;
static int port, epoll, expected_status;
static char *requests[KEYS_MAX];
static size_t request_bytes[KEYS_MAX], keys, next_key;
static struct connection *connections, **idle;
static size_t connection_count, idle_count;
static struct samples times, under_way;
static unsigned long answered, answered_otherwise, unanswered;

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void add_sample(struct samples *samples, long long ns) {
  if (samples->count < SAMPLES_MAX) samples->us[samples->count++] = ns / 1000.0f;
}

static char *read_file(const char *name, size_t *bytes) {
  FILE *file = fopen(name, "rb");
  if (file == NULL) {
    perror(name);
    exit(2);
  }
  fseek(file, 0, SEEK_END);
  *bytes = ftell(file);
  rewind(file);
  char *content = calloc(1, *bytes + 1);
  if (fread(content, 1, *bytes, file) != *bytes) exit(2);
  fclose(file);
  return content;
}

static void prepare_requests(char *header_lines) {
  for (char *line = strtok(header_lines, "\n"); line != NULL && keys < KEYS_MAX; line = strtok(NULL, "\n")) {
    size_t room = 2 * strlen(line) + strlen(path) + body_bytes + 256;
    char *request = malloc(room);
    size_t bytes = sprintf(request, "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n", path, port);
    for (const char *at = line; *at != 0; at++) {
      if (*at == '\t') bytes += sprintf(request + bytes, "\r\n");
      else request[bytes++] = *at;
    }
    bytes += sprintf(request + bytes,
                     "\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: bench\r\ncontent-length: %zu\r\n\r\n",
                     body_bytes);
    memcpy(request + bytes, body, body_bytes);
    requests[keys] = request;
    request_bytes[keys++] = bytes + body_bytes;
  }
}

static void watch(struct connection *connection, unsigned events) {
  epoll_ctl(epoll, EPOLL_CTL_MOD, connection->socket, &(struct epoll_event){.events = events, .data.ptr = connection});
}

static void open_connection(struct connection *connection) {
  int yes = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  connection->socket = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(connection->socket, (struct sockaddr *)&address, sizeof address) != 0) {
    perror("load: cannot connect");
    exit(1);
  }
  setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  fcntl(connection->socket, F_SETFL, O_NONBLOCK);
  epoll_ctl(epoll, EPOLL_CTL_ADD, connection->socket, &(struct epoll_event){.events = EPOLLIN, .data.ptr = connection});
}

static void reopen(struct connection *connection) {
  close(connection->socket);
  open_connection(connection);
}

static void write_request(struct connection *connection) {
  ssize_t sent = send(connection->socket, connection->unsent, connection->unsent_bytes, MSG_NOSIGNAL);
  if (sent < 0) sent = 0;
  connection->unsent += sent;
  connection->unsent_bytes -= sent;
}

static void start_request(struct connection *connection, long long arrived_ns) {
  connection->busy = 1;
  connection->arrived_ns = arrived_ns;
  connection->state = HEAD;
  connection->head_bytes = connection->tail_bytes = connection->left = 0;
  connection->unsent = requests[next_key];
  connection->unsent_bytes = request_bytes[next_key];
  next_key = (next_key + 1) % keys;
  write_request(connection);
  if (connection->unsent_bytes > 0) watch(connection, EPOLLIN | EPOLLOUT);
}

static void go_on_writing(struct connection *connection) {
  write_request(connection);
  if (connection->unsent_bytes == 0) watch(connection, EPOLLIN);
}

static void become_idle(struct connection *connection) {
  connection->busy = 0;
  idle[idle_count++] = connection;
}

static int ends_as_expected(struct connection *connection) {
  size_t bytes = connection->tail_bytes, expected_bytes = strlen(expected_end);
  while (bytes > 0 && isspace(connection->tail[bytes - 1])) bytes--;
  return bytes >= expected_bytes && memcmp(connection->tail + bytes - expected_bytes, expected_end, expected_bytes) == 0;
}

static void finish_request(struct connection *connection) {
  if (connection->status == expected_status && ends_as_expected(connection)) answered++;
  else answered_otherwise++;
  add_sample(&times, now_ns() - connection->arrived_ns);
  if (connection->closes) reopen(connection);
  become_idle(connection);
}

static void note_chunks(const char *bytes, size_t length, long long read_ns) {
  const char mark[] = "\"sent_ns\":";
  for (const char *at = bytes; (at = memmem(at, bytes + length - at, mark, sizeof mark - 1)) != NULL;) {
    at += sizeof mark - 1;
    long long sent_ns = 0;
    while (at < bytes + length && isdigit(*at)) sent_ns = sent_ns * 10 + (*at++ - '0');
    if (at < bytes + length && sent_ns > 1) add_sample(&under_way, read_ns - sent_ns);
  }
}

static void keep_tail(struct connection *connection, const char *bytes, size_t length) {
  if (length > TAIL_BYTES) {
    bytes += length - TAIL_BYTES;
    length = TAIL_BYTES;
  }
  size_t kept = connection->tail_bytes + length > TAIL_BYTES ? TAIL_BYTES - length : connection->tail_bytes;
  memmove(connection->tail, connection->tail + connection->tail_bytes - kept, kept);
  memcpy(connection->tail + kept, bytes, length);
  connection->tail_bytes = kept + length;
}

static void read_head(struct connection *connection) {
  char *head = connection->head;
  connection->status = atoi(head + 9);
  connection->closes = strcasestr(head, "\nconnection: close") != NULL;
  int is_chunked = strcasestr(head, "\ntransfer-encoding: chunked") != NULL;
  char *length = strcasestr(head, "\ncontent-length:");
  connection->left = is_chunked || length == NULL ? 0 : strtoul(length + 16, NULL, 10);
  connection->state = is_chunked ? CHUNK_SIZE : connection->left == 0 ? WHOLE : LENGTH;
}

static void take_head_byte(struct connection *connection, char byte) {
  if (connection->head_bytes == HEAD_BYTES_MAX) {
    fprintf(stderr, "load: an answer's head is too long\n");
    exit(1);
  }
  connection->head[connection->head_bytes++] = byte;
  connection->head[connection->head_bytes] = 0;
  if (connection->head_bytes >= 4 && memcmp(connection->head + connection->head_bytes - 4, "\r\n\r\n", 4) == 0) read_head(connection);
}

static int hexadecimal(char digit) {
  return isdigit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

/* Takes what was read of the answer, a byte or a run at a time, up to its end; the bytes that it took. */
static size_t take(struct connection *connection, const char *bytes, size_t length) {
  size_t at = 0;
  while (at < length && connection->state != WHOLE) {
    size_t run = length - at < connection->left ? length - at : connection->left;
    switch (connection->state) {
      case HEAD:
        take_head_byte(connection, bytes[at++]);
        break;
      case LENGTH:
      case CHUNK_DATA:
        keep_tail(connection, bytes + at, run);
        at += run;
        connection->left -= run;
        if (connection->left == 0) connection->state = connection->state == LENGTH ? WHOLE : CHUNK_END;
        break;
      case CHUNK_SIZE:
        if (isxdigit(bytes[at])) connection->left = connection->left * 16 + hexadecimal(bytes[at]);
        if (bytes[at++] == '\n') connection->state = connection->left == 0 ? LAST_LINE : CHUNK_DATA;
        break;
      case CHUNK_END:
        if (bytes[at++] == '\n') connection->state = CHUNK_SIZE;
        break;
      case LAST_LINE:
        if (bytes[at++] == '\n') connection->state = WHOLE;
        break;
      case WHOLE:
        break;
    }
  }
  return at;
}

static void read_answer(struct connection *connection) {
  static char bytes[READ_BYTES];
  ssize_t got = recv(connection->socket, bytes, sizeof bytes, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    if (connection->busy) {
      unanswered++;
      become_idle(connection);
    }
    reopen(connection);
    return;
  }
  if (!connection->busy) {
    answered_otherwise++;
    return;
  }
  note_chunks(bytes, got, now_ns());
  if (take(connection, bytes, got) < (size_t)got) answered_otherwise++;
  if (connection->state == WHOLE) finish_request(connection);
}

/* Waits until something can be read or written, or until a time, and does it. */
static void serve_connections(long long until_ns) {
  struct epoll_event events[EVENTS_MAX];
  long long wait_ns = until_ns - now_ns();
  if (wait_ns < 0) wait_ns = 0;
  struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
  int ready = epoll_pwait2(epoll, events, EVENTS_MAX, &wait, NULL);
  for (int index = 0; index < ready; index++) {
    struct connection *connection = events[index].data.ptr;
    if (events[index].events & EPOLLOUT) go_on_writing(connection);
    if (events[index].events & ~EPOLLOUT) read_answer(connection);
  }
}

static void run_without_pause(long long end_ns) {
  for (long long now; (now = now_ns()) < end_ns;) {
    while (idle_count > 0) start_request(idle[--idle_count], now);
    serve_connections(end_ns);
  }
}

static void run_at_rate(double rate, double seconds) {
  long long start_ns = now_ns();
  unsigned long arrivals = rate * seconds;
  for (unsigned long arrived = 0; arrived < arrivals;) {
    long long due_ns = start_ns + (long long)(arrived * 1e9 / rate), now = now_ns();
    if (now > start_ns + (long long)(seconds * 1e9) + answers_awaited_ns) {
      unanswered += arrivals - arrived;
      return;
    }
    if (idle_count > 0 && due_ns <= now) {
      start_request(idle[--idle_count], due_ns);
      arrived++;
    } else {
      serve_connections(idle_count > 0 ? due_ns : now + 1000000000);
    }
  }
}

static void await_answers(long long until_ns) {
  while (idle_count < connection_count && now_ns() < until_ns) serve_connections(until_ns);
  unanswered += connection_count - idle_count;
}

static int ascending(const void *one, const void *other) {
  float difference = *(const float *)one - *(const float *)other;
  return (difference > 0) - (difference < 0);
}

static double percentile(struct samples *samples, double part) {
  return samples->count == 0 ? 0 : samples->us[(size_t)(part * (samples->count - 1))];
}

static void print_percentiles(const char *name, struct samples *samples) {
  qsort(samples->us, samples->count, sizeof *samples->us, ascending);
  printf("\"%s\":{\"p50\":%.1f,\"p99\":%.1f}", name, percentile(samples, 0.5), percentile(samples, 0.99));
}

int main(int count, char **arguments) {
  if (count != 10) {
    fprintf(stderr, "usage: load PORT PATH BODY_FILE HEADERS_FILE CONNECTIONS RATE SECONDS STATUS END\n");
    return 2;
  }
  port = atoi(arguments[1]);
  path = arguments[2];
  body = read_file(arguments[3], &body_bytes);
  size_t header_bytes;
  prepare_requests(read_file(arguments[4], &header_bytes));
  connection_count = strtoul(arguments[5], NULL, 10);
  double rate = atof(arguments[6]), seconds = atof(arguments[7]);
  expected_status = atoi(arguments[8]);
  expected_end = arguments[9];

  times.us = malloc(SAMPLES_MAX * sizeof *times.us);
  under_way.us = malloc(SAMPLES_MAX * sizeof *under_way.us);
  connections = calloc(connection_count, sizeof *connections);
  idle = calloc(connection_count, sizeof *idle);
  epoll = epoll_create1(0);
  prctl(PR_SET_TIMERSLACK, 1000);
  for (size_t index = 0; index < connection_count; index++) {
    open_connection(&connections[index]);
    become_idle(&connections[index]);
  }

  long long start_ns = now_ns();
  if (rate == 0) run_without_pause(start_ns + (long long)(seconds * 1e9));
  else run_at_rate(rate, seconds);
  long long end_ns = now_ns();
  await_answers(end_ns + answers_awaited_ns);

  printf("{\"answered\":%lu,\"answeredOtherwise\":%lu,\"unanswered\":%lu,\"seconds\":%.3f,", answered, answered_otherwise,
         unanswered, (end_ns - start_ns) / 1e9);
  print_percentiles("requestUs", &times);
  printf(",");
  print_percentiles("chunkUs", &under_way);
  printf("}\n");
  return 0;
}
