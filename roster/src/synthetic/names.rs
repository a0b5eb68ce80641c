//! Given and family names that are common somewhere, for invented people.

pub const GIVEN: &[&str] = &[
    "Aaliyah", "Adaeze", "Aisha", "Alejandro", "Amara", "Amir", "Ana", "Anders", "Anika", "Antonio", "Ayumi", "Beatriz", "Ben", "Bilal",
    "Camila", "Carlos", "Chen", "Chloe", "Clara", "Daniel", "Darius", "David", "Deepa", "Diego", "Dina", "Elena", "Eli", "Emily", "Emre",
    "Esther", "Ethan", "Farah", "Fatima", "Felix", "Finn", "Gabriela", "Grace", "Hana", "Hassan", "Henry", "Ibrahim", "Ines", "Isaac",
    "Isabella", "Ivan", "Jada", "Jamal", "James", "Jasmine", "Jin", "Jonas", "Jose", "Julia", "Kai", "Kamala", "Karim", "Kenji", "Kofi",
    "Laila", "Lars", "Leah", "Leo", "Lina", "Linh", "Lucas", "Lucia", "Maja", "Malik", "Marco", "Maria", "Mateo", "Maya", "Mei", "Miguel",
    "Mila", "Mina", "Mohammed", "Nadia", "Naomi", "Nia", "Nikolai", "Noah", "Noor", "Olivia", "Omar", "Oscar", "Paul", "Priya", "Rafael",
    "Ravi", "Rosa", "Ruth", "Sadia", "Sam", "Samira", "Santiago", "Sara", "Simone", "Sofia", "Sven", "Tariq", "Thandi", "Theo", "Tomás",
    "Uma", "Valeria", "Victor", "Wei", "William", "Xiomara", "Yara", "Yusuf", "Zainab", "Zoë",
];

pub const FAMILY: &[&str] = &[
    "Abbott", "Abdi", "Acosta", "Adeyemi", "Ahmed", "Alvarez", "Andersen", "Asante", "Bailey", "Baker", "Banerjee", "Begum", "Bell", "Berg",
    "Brooks", "Brown", "Castillo", "Chan", "Chavez", "Clark", "Cohen", "Cruz", "Dang", "Davis", "Delgado", "Desai", "Diallo", "Diaz", "Do",
    "Edwards", "El-Amin", "Evans", "Farouk", "Fernandes", "Fischer", "Flores", "Foster", "Garcia", "Gomez", "Green", "Gupta", "Haddad",
    "Hall", "Hansen", "Haque", "Harris", "Hernandez", "Hoang", "Hughes", "Hussein", "Iyer", "Jackson", "Jensen", "Johansson", "Jones",
    "Joshi", "Kamau", "Kaur", "Khan", "Kim", "King", "Kowalski", "Kumar", "Larsen", "Le", "Lee", "Lewis", "Lin", "Lopez", "Mahmoud",
    "Martinez", "Mbeki", "Mensah", "Miller", "Mitchell", "Moore", "Morales", "Murphy", "Mwangi", "Nakamura", "Nguyen", "Novak", "O'Brien",
    "Okafor", "Okoye", "Olsen", "Ortiz", "Osei", "Park", "Patel", "Pereira", "Perez", "Petrov", "Pham", "Price", "Quispe", "Rahman",
    "Ramirez", "Reddy", "Reyes", "Rivera", "Roberts", "Rossi", "Ruiz", "Saleh", "Santos", "Sato", "Schmidt", "Shah", "Silva", "Singh",
    "Smith", "Sokolov", "Suzuki", "Tanaka", "Taylor", "Thomas", "Torres", "Tran", "Turner", "Vargas", "Vasquez", "Walker", "Wang", "Watson",
    "White", "Williams", "Wilson", "Wong", "Yamamoto", "Yang", "Yilmaz", "Young", "Zhang", "Zhou",
];

pub const PLACES: &[&str] = &[
    "Maple Hollow", "Riverbend", "Stone Creek", "Harbor View", "Cedar Ridge", "Sunfield", "Willow Park", "Northgate", "Lakeshore", "Juniper Hill",
    "Meadowbrook", "Copper Canyon", "Fairmont", "Eastbridge", "Silver Birch", "Prairie Rose", "Westwind", "Old Mill", "Bluewater", "Granite Falls",
];

/// Subject, course title.
pub const SUBJECTS: &[(&str, &str)] = &[
    ("ELA", "English"), ("MAT", "Mathematics"), ("SCI", "Science"), ("SOC", "Social Studies"), ("PHE", "Physical Education"), ("ART", "Art"),
    ("MUS", "Music"), ("LNG", "World Language"),
];
