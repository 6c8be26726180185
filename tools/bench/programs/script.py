import json
import re
import sys


class Account:
    def __init__(self, name, balance):
        self.name, self.balance = name, balance

    def move(self, other, amount):
        if amount > self.balance:
            raise ValueError(self.name)
        self.balance -= amount
        other.balance += amount


def words(n):
    state = 12345
    for _ in range(n):
        state = (state * 1103515245 + 12345) % 2**31
        yield "w%d" % (state >> 16 & 1023)


def main(rounds):
    result = 0
    for _ in range(rounds):
        counts = {}
        for word in words(4000):
            counts[word] = counts.get(word, 0) + 1
        ranking = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        text = json.dumps(dict(ranking[:300]))
        result += sum(int(n) for n in re.findall(r'"w\d*7": (\d+)', text)) + len(json.loads(text))
        accounts = [Account(str(i), i % 97) for i in range(200)]
        for i in range(4000):
            try:
                accounts[i * 7 % 200].move(accounts[i * 13 % 200], i % 50)
            except ValueError as error:
                result += int(str(error)) % 3
        result += sum(x * x % 7 for x in range(6000) if x & 3)
        result += len("".join(sorted(str(account.balance) for account in accounts)))
    print(result)


main(int(sys.argv[1]))
